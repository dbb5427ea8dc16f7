"""Calibration: threshold a map at the level that makes the model most confident.

    I_i    = map with its floor(P * i / 10) lowest pixels set to 0        i = 0 .. 9
    inc_i  = max(p_c(I_i (*) x) - p_c(x), 0)
    i*     = the first i with the largest inc_i                       the calibrated map is I_i*

The remaining pixels keep their values. "fixed" applies i*; "official" applies i* + 1 as the published code does, so it
never uses the best level, and i* = 9 empties the map. Calibration works for any method's maps in [0, 1].

Shapes: maps (N, H, W) in [0, 1]; levels (N,).
Source: Lee & Han, IJCAI 2022, and the authors' code for "official".
"""

from typing import Any, Literal

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.pixel_order import keep, ranks, removed
from xaikit.images.shapes import check_maps
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.run.batch import Batch
from xaikit.run.context import Context

Calibration = Literal["fixed", "official"]
LEVELS = 10


def calibrate(
    classifier: Classifier,
    inputs: Tensor,
    maps: Tensor,
    target: Any = None,
    mode: Calibration = "fixed",
    *,
    context: Context | None = None,
) -> tuple[Tensor, Tensor]:
    """Calibrate the maps of any method.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        maps: maps (N, H, W) in [0, 1], such as `attribution.heatmap()`.
        target: the class whose confidence is maximised; None is the top class.
        mode: "fixed" applies the best level, "official" the one after it.
        context: settings of the run.

    Returns:
        Calibrated maps (N, H, W) and the applied levels (N,), in tenths of the pixels removed.

    Raises:
        BadInput: the maps have a wrong shape or range, or the mode is unknown.
    """
    if mode not in ("fixed", "official"):
        raise BadInput(f"calibrate: expected fixed or official, got {mode!r}")
    check_classifier(classifier)
    pixels = classifier.check(inputs)
    check_maps(maps, pixels)
    if maps.numel() and not (float(maps.amin()) >= 0 and float(maps.amax()) <= 1):
        raise BadInput("maps: expected values in [0, 1], got others; use attribution.heatmap()")
    context = context or Context()
    with classifier.borrowed():
        return calibrated(Batch(classifier, pixels, target, context), maps.to(pixels), mode)


def calibrated(batch: Batch, maps: Tensor, mode: Calibration) -> tuple[Tensor, Tensor]:
    """Return the calibrated maps (n, H, W) of a batch and the applied levels (n,)."""
    order = ranks(maps)
    positions = order.shape[1]
    counts = torch.tensor([removed(level, LEVELS, positions) for level in range(LEVELS + 1)], device=maps.device)

    def confidence(rows: Tensor, levels: Tensor) -> Tensor:
        masks = maps[rows] * keep(order[rows], counts[levels], batch.size)
        return batch.probabilities_of(batch.inputs[rows] * masks[:, None], rows)

    parts = [part for _, _, part in batch.pairs(LEVELS, confidence, "thresholds")]
    confidences = torch.cat([batch.probabilities[:0], *parts]).reshape(len(batch), LEVELS)
    best = _first_largest((confidences - batch.probabilities[:, None]).clamp_min(0))
    level = best if mode == "fixed" else best + 1
    return maps * keep(order, counts[level], batch.size), level


def _first_largest(gain: Tensor) -> Tensor:
    """Return the index (n,) of the first maximum of each row."""
    is_best = gain == gain.amax(1, keepdim=True)
    indices = torch.arange(gain.shape[1], device=gain.device).expand_as(gain)
    return torch.where(is_best, indices, gain.shape[1]).amin(1).clamp_max(gain.shape[1] - 1)
