"""API, APD, IR and DR over thresholds: what the network still sees when only the map's highest pixels are kept.

    x_ij = M_ij * x_i + (1 - M_ij) * b_i        M_ij = I_i * keep_ij (soft) or keep_ij (binary), fill b
    keep_ij                                     all but the floor(P j / J) lowest pixels of the map I_i
    y_i  = p_c(x_i)        o_ij = p_c(x_ij)     the measures are means over i: see `KeepCurve`

    maps -> one sort, cuts of all levels (cut.py) -> what is known already (plan.py) -> the rest in full portions
    (stream.py) -> the curve (curve.py); every switch is in protocol.py, and what curves share in removals.py

Known without a forward: a mask that removes nothing gives y; one that removes everything gives the floor p_c(b);
levels with the same mask share one value, such as the soft levels that remove only zeros of the map. Several maps of
the same images share y, the floor and the portions. The product is taken in the network's own coordinates, where the
mean colour is zero. Scores are float32 at least.

Shapes: inputs (N, C, H, W) in [0, 1]; maps (N, H, W) in [0, 1], used as they are; curves (N, T), T = levels + 1.
Source: Lee and Han (Libra-CAM), IJCAI 2022.
Departs from source: the level removes exactly floor(P j / J) pixels, ties in row-major order, whatever the sort.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.protocol import CurveFill, KeepProtocol, Mask
from xaikit.measures.removal.shared_curves import Removals
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context


def keep_curve(
    classifier: Classifier,
    inputs: Tensor,
    maps: Tensor,
    target: Any = None,
    levels: int = 10,
    mask: Mask = "soft",
    fill: CurveFill | Tensor = "mean",
    **options: Any,
) -> KeepCurve:
    """Measure the confidence while the lowest pixels of each map are removed.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        maps: (N, H, W) in [0, 1], used as they are; `attribution.heatmap()` has that form.
        target: None (top class), index, label, sequence, tensor, `Contrast` (the confidence is the class's among the
            two) or callable `logits -> (N,)` (its value is the confidence).
        levels: thresholds are 0, 1 / levels, ..., 1.
        mask: "soft" or "binary".
        fill: what removed pixels become.
        **options: seed, chunk_size and context as in `keep_curves`, and the other switches of `KeepProtocol`:
            threshold, ties, tie_orders, score, tie_tolerance, order.

    Raises:
        BadInput: inputs, maps, target or a switch that do not fit.
    """
    return keep_curves(classifier, inputs, {"maps": maps}, target, levels, mask, fill, **options)["maps"]


def keep_curves(
    classifier: Classifier,
    inputs: Tensor,
    maps: Mapping[str, Tensor],
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
    """Measure several methods' maps of the same images, sharing y, the floor and the portions.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        maps: (N, H, W) in [0, 1] by the method's name.
        target: as in `keep_curve`; so are levels, mask and fill.
        levels: thresholds are 0, 1 / levels, ..., 1.
        mask: "soft" or "binary".
        fill: what removed pixels become.
        seed: of random ties and noise, together with each image's content.
        chunk_size: most images in one pass; None chooses by free memory.
        context: instead of seed and chunk_size, everything about the run.
        **switches: the others of `KeepProtocol`.

    Returns:
        One curve by name, in the given order.

    Raises:
        BadInput: inputs, maps, target or a switch that do not fit.
    """
    protocol = KeepProtocol.build(levels=levels, mask=mask, fill=fill, **switches)
    context = context or Context(seed=seed, chunk_size=chunk_size)
    return Removals(classifier, inputs, maps, target, context).curves(protocol)
