"""Several measures of the maps of one batch, which share their forwards.

    measure(clf, x, attribution, ["insertion", "apd"])      of what the attribution explains, contrast or callable too
    measure(clf, x, maps, ["iou"], masks=masks)             of maps (N, H, W) in [0, 1] from anywhere, also NumPy

Shapes: inputs (N, C, H, W); maps (N, H, W) in [0, 1]; masks (N, H, W) bool; each result (N,) float64 on the CPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.reading import Inputs
from xaikit.images.shapes import check_maps, from_numpy
from xaikit.measures.base import MEASURES, Explainer, Measure, Subject, computed
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.model.target import Target, check_target, resolve_target
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context


def measure(
    classifier: Classifier,
    inputs: Inputs,
    maps: Tensor | np.ndarray[Any, Any] | Attribution,
    measures: Sequence[str | Measure] | str | Measure = ("insertion", "deletion"),
    target: Any = None,
    *,
    masks: Tensor | np.ndarray[Any, Any] | None = None,
    method: Explainer | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    context: Context | None = None,
) -> dict[str, Tensor]:
    """Return the values of measures for each image's map.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        maps: (N, H, W) in [0, 1], used without scaling; an attribution gives its heatmap, its values and its target.
        measures: names, in any spelling, or measures with parameters of their own; `xaikit.measures()` lists them.
        target: None (what the attribution explains, else the top class), index, label, sequence, tensor, `Contrast` or
            callable.
        masks: (N, H, W) bool, True on the evidence, for measures of localisation.
        method: the bound method that made the maps, for measures that compute further maps.
        params: parameters by the measure's name.
        seed: seed of random draws, combined with each image's content.
        chunk_size: largest number of images in one pass; None chooses it by the free memory.
        context: settings of the run, in place of `seed` and `chunk_size`.

    Returns:
        One value per image, (N,) float64 on the CPU, by the measure's name as given; NaN where it is not defined.

    Raises:
        UnknownName: no measure has one of the names.
        BadInput: an argument is invalid, or a measure needs masks, the method or probabilities, and there are none.
    """
    check_classifier(classifier)
    chosen = _chosen(measures, params or {})
    context = context or Context(seed, chunk_size)
    pixels = classifier.check(inputs)
    if not len(pixels):
        raise BadInput("inputs: expected at least one image, got none")
    attribution = maps if isinstance(maps, Attribution) else None
    heatmaps = _finite_maps(maps, pixels)
    for name, entry in chosen.items():
        if "masks" in entry.needs and masks is None:
            raise BadInput(f"{name}: expected masks=, True on the evidence, got none; give (N, H, W) of bool")
        if "method" in entry.needs and method is None:
            raise BadInput(
                f"{name}: expected method=, which makes further maps, got none; "
                "give it bound, such as xaikit.get_method('grad-cam')(classifier)"
            )
    subject = Subject(
        classifier,
        pixels,
        heatmaps,
        _target(classifier, pixels, target, attribution, context),
        method,
        None if masks is None else _evidence(masks, heatmaps),
        attribution,
        context,
    )
    return {name: computed(entry, subject, name) for name, entry in chosen.items()}


def _chosen(measures: Any, params: Mapping[str, Mapping[str, Any]]) -> dict[str, Measure]:
    """Return the measures by the names that they were given."""
    entries = [measures] if isinstance(measures, str | Measure) else measures
    if not isinstance(entries, Sequence) or not entries:
        raise BadInput(f"measures: expected names, got {entries!r}; xaikit.measures() lists them")
    names = {entry.name if isinstance(entry, Measure) else entry: entry for entry in entries}
    unknown = [name for name in params if isinstance(names.get(name), Measure) or name not in names]
    if unknown:
        raise BadInput(f"params: expected names among the measures, got {unknown[0]!r}; they are {', '.join(names)}")
    chosen = {}
    for name, entry in names.items():
        if isinstance(entry, Measure):
            chosen[name] = entry
            continue
        kind, given = MEASURES.get(entry), params.get(name, {})
        kind.check_names(given)
        chosen[name] = kind(**given)
    return chosen


def _finite_maps(maps: Any, pixels: Tensor) -> Tensor:
    """Return maps (N, H, W) in [0, 1] on the images' device."""
    heatmap: Tensor = maps.heatmap() if isinstance(maps, Attribution) else from_numpy(maps)
    check_maps(heatmap, pixels)
    if isinstance(maps, Attribution):
        return heatmap.to(pixels.device)
    if not heatmap.is_floating_point():
        raise BadInput(f"maps: expected numbers in [0, 1], got {heatmap.dtype}; convert and scale them")
    broken = (~heatmap.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if broken:
        raise BadInput(f"maps: expected finite values, got NaN or infinity in image {broken[0]}; leave it out")
    if heatmap.numel() and (heatmap.amin() < 0 or heatmap.amax() > 1):
        raise BadInput(
            f"maps: expected values in [0, 1], got {float(heatmap.amin()):.3g} to {float(heatmap.amax()):.3g}; "
            "scale each map, (map - min) / (max - min)"
        )
    return heatmap.detach().to(pixels.device)


def _evidence(masks: Any, maps: Tensor) -> Tensor:
    """Return masks (N, H, W) as a bool tensor."""
    evidence: Tensor = from_numpy(masks)
    if not isinstance(evidence, Tensor) or evidence.dtype != torch.bool or evidence.shape != maps.shape:
        got = f"{evidence.dtype} {tuple(evidence.shape)}" if isinstance(evidence, Tensor) else type(masks).__name__
        raise BadInput(f"masks: expected bool {tuple(maps.shape)}, True on the evidence, got {got}; masks > 0 is one")
    return evidence


def _target(
    classifier: Classifier, pixels: Tensor, target: Any, attribution: Attribution | None, context: Context
) -> Target:
    """Return the resolved target: the given one, that of the attribution, or the top class."""
    if target is None and attribution is not None:
        return attribution.full_target
    target = check_target(target, len(pixels))

    def forward(rows: slice) -> Tensor:
        return context.forward(classifier, classifier.normalize(pixels[rows]))

    with classifier.borrowed(), torch.no_grad():
        size = context.portion(classifier, (pixels.shape[-2], pixels.shape[-1]))
        logits = torch.cat(list(context.portions(len(pixels), size, forward)))
    return resolve_target(target, logits, classifier.labels)
