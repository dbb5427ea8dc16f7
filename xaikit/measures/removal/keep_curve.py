"""API, APD, IR and DR over thresholds: the network's confidence when only the map's highest pixels are kept.

    x_ij = M_ij * x_i + (1 - M_ij) * b_i        M_ij = I_i * keep_ij (soft) or keep_ij (binary), fill b
    keep_ij                                     all but the floor(P j / J) lowest pixels of the map I_i
    y_i  = p_c(x_i)        o_ij = p_c(x_ij)     the measures are means over i: see `KeepCurve`

    maps -> one sort, cuts of all levels (levels.py) -> values known without a forward (schedule.py) -> the rest in
    full portions (masked_forwards.py) -> the curve (curve.py); settings: protocol.py; sharing: shared_curves.py

Three kinds of values need no forward: a mask that removes nothing gives y, a mask that removes everything gives the
floor p_c(b), and levels with the same mask share one value (for example soft levels that remove only zeros of the map).
Several maps of the same images share y, the floor and the portions. The product is taken in the network's own
coordinates, where the mean colour is zero. Scores are float32 at least.

Shapes: inputs (N, C, H, W) in [0, 1]; maps (N, H, W) in [0, 1], used without scaling; curves (N, T), T = levels + 1.
Source: Lee and Han (Libra-CAM), IJCAI 2022.
Departs from source: the level removes exactly floor(P j / J) pixels, ties in row-major order, whatever the sort.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.reading import Inputs
from xaikit.images.shapes import from_numpy
from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.protocol import CurveFill, KeepProtocol, Mask
from xaikit.measures.removal.shared_curves import Removals
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context


def keep_curve(
    classifier: Classifier,
    inputs: Inputs,
    maps: Tensor | np.ndarray[Any, Any] | Attribution,
    target: Any = None,
    levels: int = 10,
    mask: Mask = "soft",
    fill: CurveFill | Tensor = "mean",
    **options: Any,
) -> KeepCurve:
    """Return the curve of the confidence while the lowest pixels of each map are removed.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        maps: (N, H, W) in [0, 1], also NumPy, used without scaling; an attribution gives its heatmap and its target.
        target: None (what the attribution explains, else the top class), index, label, sequence, tensor, `Contrast`
            (the confidence is the class's share among the two) or callable `logits -> (N,)` (its value is the
            confidence).
        levels: number of steps; the thresholds are 0, 1 / levels, ..., 1.
        mask: "soft" or "binary".
        fill: value of removed pixels.
        **options: seed, chunk_size and context as in `keep_curves`, and the other settings of `KeepProtocol`:
            threshold, ties, tie_orders, score, tie_tolerance, order.

    Raises:
        BadInput: invalid inputs, maps, target or settings.
    """
    return keep_curves(classifier, inputs, {"maps": maps}, target, levels, mask, fill, **options)["maps"]


def keep_curves(
    classifier: Classifier,
    inputs: Inputs,
    maps: Mapping[str, Tensor | np.ndarray[Any, Any] | Attribution],
    target: Any = None,
    levels: int = 10,
    mask: Mask = "soft",
    fill: CurveFill | Tensor = "mean",
    *,
    seed: int = 0,
    chunk_size: int | None = None,
    context: Context | None = None,
    **switches: Any,
) -> dict[str, KeepCurve]:
    """Return the curves of several methods' maps of the same images, sharing y, the floor and the portions.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        maps: maps (N, H, W) in [0, 1] or attributions, by the method's name.
        target: as in `keep_curve`, the same for all; so are levels, mask and fill.
        levels: number of steps.
        mask: "soft" or "binary".
        fill: value of removed pixels.
        seed: seed of random ties and noise, combined with each image's content.
        chunk_size: largest number of images in one pass; None chooses by free memory.
        context: settings of the run, which replace seed and chunk_size.
        **switches: the other settings of `KeepProtocol`.

    Returns:
        The curve of each method, by name, in the order of `maps`.

    Raises:
        BadInput: invalid inputs, maps, target or settings.
    """
    protocol = KeepProtocol.build(levels=levels, mask=mask, fill=fill, **switches)
    context = context or Context(seed=seed, chunk_size=chunk_size)
    attributions = [values for values in maps.values() if isinstance(values, Attribution)]
    target = _common_target(attributions) if target is None and attributions else target
    heatmaps = {name: _heatmap(values) for name, values in maps.items()}
    return Removals(classifier, inputs, heatmaps, target, context).curves(protocol)


def _heatmap(maps: Tensor | np.ndarray[Any, Any] | Attribution) -> Tensor:
    heatmap: Tensor = maps.heatmap() if isinstance(maps, Attribution) else from_numpy(maps)
    return heatmap


def _common_target(attributions: Sequence[Attribution]) -> Target:
    """Return the target that attributions of the same images explain.

    Raises:
        BadInput: they explain several.
    """
    first, *others = (attribution.full_target for attribution in attributions)
    if any(other != first for other in others):
        raise BadInput("target: expected attributions of one target, got several; measure them one at a time")
    return first
