"""One factor of the drawn images changed, everything else equal: what shows which factor a network uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from xaikit.foundation.errors import UnknownName
from xaikit.images.synthetic import Scene, draw

Intervention = Literal[
    "object-removed",
    "background-redrawn",
    "distractors-redrawn",
    "texture-replaced",
    "object-only",
    "object-filled",
    "distractors-filled",
]
INTERVENTIONS: tuple[Intervention, ...] = get_args(Intervention)


def intervene(
    kind: Intervention,
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    fill: Sequence[float] | Tensor = (0.5, 0.5, 0.5),
) -> Scene:
    """Return the images of `draw(count, seed, start=start)` with one factor changed and everything else equal.

    Masks and labels describe the changed image, except that images whose object is filled keep the label of the object.

    Args:
        kind: one of `INTERVENTIONS`. The first four redraw the images without the object, with another background,
            with other distractors, or with the texture of class c + 1; the last three set the pixels outside the
            object, of the object, or of the distractors to `fill`.
        count: number of images.
        seed: seed of the sequence of images.
        start: index of the first image.
        fill: the neutral colour of the network under test, usually its mean, one value per channel.

    Raises:
        UnknownName: no such intervention.
    """
    match kind:
        case "object-removed":
            return draw(count, seed, start=start, content="empty")
        case "background-redrawn":
            return draw(count, seed, start=start, background_seed=seed + 1)
        case "distractors-redrawn":
            return draw(count, seed, start=start, distractor_seed=seed + 1)
        case "texture-replaced":
            return draw(count, seed, start=start, class_shift=1)
    scene = draw(count, seed, start=start)
    match kind:
        case "object-only":
            filled = ~scene.objects
        case "object-filled":
            filled = scene.objects
        case "distractors-filled":
            filled = scene.distractors
        case _:
            raise UnknownName("intervention", kind, INTERVENTIONS)
    colour = torch.as_tensor(fill, dtype=torch.float32).view(1, 3, 1, 1)
    return replace(
        scene,
        pixels=torch.where(filled[:, None], colour, scene.pixels),
        objects=scene.objects & ~filled,
        distractors=scene.distractors & ~filled,
    )
