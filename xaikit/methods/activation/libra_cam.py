"""Libra-CAM: contrast of the image's activations with those of reference images that do not show the class.

    I_r = rho(alpha * sum_k d z_c / d A_k (*) (A_k - A_rk))         first-order contrast of image and reference r
    I   = mean of I_r over the references whose masked image I_r (*) x keeps the class's confidence

In words: The image's activations are compared with those of reference images that do not show the class; the gradient
tells how much each difference raises the class score. Every reference gives a map, and those whose masked image keeps
the network confident are averaged. A last step removes the lowest pixels where that raises confidence most. The map is
coarse, not negative, and specific to the class. It is chosen by confidence on masked images, so measures of the same
kind favour it; judge it by others as well.

rho is the min-max of one map, which cancels alpha > 0. With delta_r = p_c(I_r (*) x) - p_c(x) the kept references are
1. if any delta_r > 0: among those, with mean m and standard deviation s, the references with delta_r >= m - s;
2. otherwise the references with delta_r > m + s, with m and s over all references;
3. if there are none, all references.
The mean is then calibrated (calibration.py): its lowest pixels are removed at the level that makes the model most
confident. References with a constant map carry no information and are left out before step 1.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in [0, 1], not rescaled after the mean or the calibration.
Units:  share of the largest contrast.
Source: Lee & Han, Libra-CAM, IJCAI 2022, and the authors' code for the three branches.
Departs from source: rho after upsampling (before it with order="official"); calibration applies the best level (the
    next one with calibrate="official"); any class may be explained, not only the predicted one; without a library the
    references are drawn pictures (images/references.py), with the flag "default-library".
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import unit, upsample
from xaikit.methods.activation.calibration import LEVELS, Calibration, calibrated
from xaikit.methods.activation.labelled_folder import library_of
from xaikit.methods.activation.reference_library import Library
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.context import Counters
from xaikit.run.cost import Cost

_ROUNDING_STEPS = 64  # largest contrast with an equal reference, in rounding steps of what the activations contribute


@METHODS.register
@dataclass(frozen=True)
class LibraCAM(LayerMethod):
    """Contrast of the activations with a library of references, filtered and calibrated by the model's confidence.

    Args:
        library: reference activations by class: a `Library`, the file of one, or a folder of labelled images, one
            subfolder per class; None uses drawn pictures.
        references: largest number of references per image.
        calibrate: "fixed" applies the best threshold, "official" the one after it, None no threshold.
        order: "upsample-first" applies min-max to a map after resizing it, "official" before.
    """

    library: Library | str | Path | None = None
    references: Annotated[int, Ge(1), Le(10_000)] = 30
    calibrate: Calibration | None = "fixed"
    order: Literal["upsample-first", "official"] = "upsample-first"

    name = "libra-cam"
    family = "activation"
    source = "Lee & Han, IJCAI 2022"
    signed = False
    scale = "unit"
    needs = frozenset({"gradients", "probabilities", "library"})

    def check(self) -> None:
        """Read the library of a file, or build that of a folder."""
        if isinstance(self.library, str | Path):
            library = library_of(self.library, self.classifier, str(self.place), self.references)
            object.__setattr__(self, "library", library)

    @cached_property
    def _drawn(self) -> dict[tuple[tuple[int, int], str], Library]:
        return {}

    def used_library(self, batch: Batch) -> Library:
        """Return the user's library, checked against the classifier, or one of pictures drawn at the images' size."""
        if isinstance(self.library, Library):
            self.library.check(self.classifier, str(self.place))
            return self.library
        key = batch.size, self.classifier.fingerprint
        if key not in self._drawn:
            context = replace(batch.context, counters=Counters(), progress=None, precision="float32")
            arguments = (self.classifier, self.place, batch.size, self.references)
            self._drawn[key] = Library.of_drawn_pictures(*arguments, context)
        return self._drawn[key]

    def compute(self, batch: Batch) -> Values:
        """Return the calibrated mean contrast, (n, H, W)."""
        raw, present = self._contrasts(batch)
        _, constant, invalid = unit(raw)
        activations, gradients = batch.activations_and_gradients(self.place)
        size = (activations * gradients).abs().sum(1).amax((1, 2))[:, None]
        equal = raw.abs().amax((2, 3)) <= _ROUNDING_STEPS * torch.finfo(raw.dtype).eps * size
        kept = kept_references(self._gains(batch, raw), present & ~(constant | invalid | equal))
        maps = self._mean(batch, raw, kept)
        count = kept.sum(1)
        flags: list[set[str]] = [set() if references else {"no-reference"} for references in count.tolist()]
        if self.library is None:
            for names in flags:
                names.add("default-library")
        params: dict[str, Any] = {"library": self.used_library(batch).fingerprint}
        if self.calibrate is not None:
            maps, level = calibrated(batch, maps, self.calibrate)
            params["level"] = level.tolist()
        return Values(maps, flags=flags, params=params, diagnostics={"references": count})

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward and tail backward, one forward per reference, and ten for the calibration."""
        return Cost(1 + self.references + (LEVELS if self.calibrate else 0), 0.05)

    def _contrasts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return raw maps (n, R, h, w) and which of them exist (n, R); images of one class are processed together."""
        activations, gradients = batch.activations_and_gradients(self.place)
        shape = (len(batch), self.references)
        raw = activations.new_zeros(*shape, *activations.shape[2:])
        present = torch.zeros(shape, dtype=torch.bool, device=raw.device)
        library = self.used_library(batch)
        for label in sorted(set(batch.target.index.tolist())):
            images = (batch.target.index == label).nonzero()[:, 0]
            references = library.references(label, self.references).to(activations)
            if not len(references):
                labels = self.classifier.labels
                name = labels[label] if labels else f"class {label}"
                raise BadInput(f"library: expected references for {name!r}, got none; add images of other classes")
            if references.shape[1:] != activations.shape[1:]:
                shapes = f"{tuple(activations.shape[1:])}, got {tuple(references.shape[1:])}"
                raise BadInput(f"library: expected activations {shapes}; read images at the library's size")
            raw[images, : len(references)] = contrast(activations[images], gradients[images], references)
            present[images, : len(references)] = True
        return raw, present

    def _spread(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """Return maps (m, H, W) in [0, 1] from raw maps (m, h, w)."""
        if self.order == "official":
            return upsample(unit(raw)[0], size)
        return unit(upsample(raw, size))[0]

    def _gains(self, batch: Batch, raw: Tensor) -> Tensor:
        """Return delta (n, R), the gain in confidence by masking the image with each reference's map."""

        def confidence(rows: Tensor, references: Tensor) -> Tensor:
            masks = self._spread(raw[rows, references], batch.size)
            return batch.probabilities_of(batch.inputs[rows] * masks[:, None], rows)

        parts = [part for _, _, part in batch.pairs(raw.shape[1], confidence, "references")]
        return torch.cat([batch.probabilities[:0], *parts]).reshape(raw.shape[:2]) - batch.probabilities[:, None]

    def _mean(self, batch: Batch, raw: Tensor, kept: Tensor) -> Tensor:
        """Return the mean (n, H, W) of the kept maps, added in the order of the references."""
        total = raw.new_zeros(len(batch), *batch.size)
        for reference in range(raw.shape[1]):
            used = kept[:, reference]
            total[used] += self._spread(raw[used, reference], batch.size)
        return total / kept.sum(1).clamp_min(1)[:, None, None]


def contrast(activations: Tensor, gradients: Tensor, references: Tensor) -> Tensor:
    """Return sum_k G_k (*) (A_k - A_rk), (n, R, h, w), with alpha = 1.

    Args:
        activations: (n, C, h, w) activations of the images.
        gradients: (n, C, h, w) gradients d score / d A.
        references: (R, C, h, w) activations of the references.
    """
    base = torch.einsum("nkhw,nkhw->nhw", gradients, activations)
    return base[:, None] - torch.einsum("nkhw,rkhw->nrhw", gradients, references)


def kept_references(gains: Tensor, present: Tensor) -> Tensor:
    """Return which references are kept, (n, R), by the three branches of the module's docstring.

    Args:
        gains: (n, R) gains in confidence delta_r.
        present: (n, R) bool, whether a reference exists and its map is not constant.
    """
    improved = present & (gains > 0)
    any_improved = improved.any(1, keepdim=True)
    mean, deviation = _moments(gains, torch.where(any_improved, improved, present))
    chosen = torch.where(any_improved, improved & (gains >= mean - deviation), present & (gains > mean + deviation))
    return torch.where(chosen.any(1, keepdim=True), chosen, present)


def _moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation (n, 1) over the masked entries of each row."""
    values, count = values.double(), mask.sum(1, keepdim=True).clamp_min(1)
    mean = torch.where(mask, values, 0).sum(1, keepdim=True) / count
    variance = torch.where(mask, (values - mean).square(), 0).sum(1, keepdim=True) / count
    return mean, variance.sqrt()
