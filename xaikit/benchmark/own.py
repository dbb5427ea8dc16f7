"""What the caller of a benchmark brings along instead of names: classifiers, and images in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from xaikit.benchmark.score import Images
from xaikit.model.classifier import Classifier


@dataclass(frozen=True)
class Own:
    """Objects of the caller.

    Args:
        classifiers: the classifiers of a suite's models with `own`, by name.
        images: the images of a suite's data of kind "given", or None.
        maps: maps of these images by the name that rows have, each (h, w) by the content hash of the image.
    """

    classifiers: Mapping[str, Classifier] = field(default_factory=dict)
    images: Images | None = None
    maps: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
