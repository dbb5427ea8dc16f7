"""The drawn images: their masks are exact, their streams independent, their textures those of a second derivation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.interventions import INTERVENTIONS, intervene
from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.images.synthetic import CLASSES, Scene, draw

COUNT = 24

PATTERNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "horizontal stripes": lambda y, x: y // 2 % 2 == 0,
    "vertical stripes": lambda y, x: x // 2 % 2 == 0,
    "rising diagonals": lambda y, x: (x + y) // 2 % 2 == 0,
    "falling diagonals": lambda y, x: (x - y) // 2 % 2 == 0,
    "checkers": lambda y, x: (x // 2 + y // 2) % 2 == 0,
    "dots": lambda y, x: (x // 2 % 2 == 0) & (y // 2 % 2 == 0),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw(COUNT, seed=3)


def test_shapes_ranges_and_balanced_classes(scene: Scene) -> None:
    assert scene.pixels.shape == (COUNT, 3, 64, 64)
    assert scene.pixels.dtype == torch.float32
    assert scene.pixels.min() >= 0
    assert scene.pixels.max() <= 1
    assert scene.objects.shape == scene.distractors.shape == (COUNT, 64, 64)
    assert scene.labels.bincount().tolist() == [COUNT // 6] * 6
    assert tuple(PATTERNS) == CLASSES


def test_an_image_does_not_depend_on_its_batch() -> None:
    together, apart = draw(4, seed=5, start=254), draw(1, seed=5, start=256)
    for name in ("pixels", "labels", "objects", "distractors"):
        assert torch.equal(getattr(together, name)[2:3], getattr(apart, name))


def test_seeds_differ_and_the_global_generator_is_left_alone(scene: Scene) -> None:
    before = torch.get_rng_state()
    other = draw(COUNT, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(other.objects, scene.objects)
    assert not torch.equal(other.pixels, scene.pixels)


def test_object_pixels_are_the_texture_of_the_class_in_two_contrasting_colours(scene: Scene) -> None:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    for pixels, label, mask in zip(scene.pixels, scene.labels.tolist(), scene.objects, strict=True):
        colours, which = pixels[:, mask].unique(dim=1, return_inverse=True)
        assert colours.shape[1] == 2
        assert (colours.mean(0)[0] - colours.mean(0)[1]).abs() >= 0.3 - 1e-6
        shifted = [PATTERNS[CLASSES[label]](y + down, x + right)[mask] for down in range(4) for right in range(4)]
        assert any(torch.equal(pattern, which == colour) for pattern in shifted for colour in (0, 1))


def test_distractors_are_flat_and_never_on_the_object(scene: Scene) -> None:
    assert not (scene.distractors & scene.objects).any()
    for pixels, mask in zip(scene.pixels, scene.distractors, strict=True):
        assert pixels[:, mask].unique(dim=1).shape[1] <= 3


def test_areas_are_those_of_the_specification() -> None:
    many = draw(600, seed=8)
    assert many.objects.float().mean().item() == pytest.approx(0.117, abs=0.01)
    assert many.distractors.float().mean().item() == pytest.approx(0.068, abs=0.01)


def test_the_background_alone_changes(scene: Scene) -> None:
    other = intervene("background-redrawn", COUNT, 3)
    drawn = (scene.objects | scene.distractors)[:, None].expand_as(scene.pixels)
    assert torch.equal(other.pixels[drawn], scene.pixels[drawn])
    assert (other.pixels[~drawn] != scene.pixels[~drawn]).float().mean() > 0.9
    assert torch.equal(other.objects, scene.objects)
    assert torch.equal(other.distractors, scene.distractors)


def test_the_distractors_alone_change(scene: Scene) -> None:
    other = intervene("distractors-redrawn", COUNT, 3)
    kept = ~(scene.distractors | other.distractors)[:, None].expand_as(scene.pixels)
    assert torch.equal(other.pixels[kept], scene.pixels[kept])
    assert (other.distractors != scene.distractors).any((1, 2)).all()
    assert torch.equal(other.objects, scene.objects)


def test_the_texture_alone_changes(scene: Scene) -> None:
    other = intervene("texture-replaced", COUNT, 3)
    kept = ~scene.objects[:, None].expand_as(scene.pixels)
    assert torch.equal(other.pixels[kept], scene.pixels[kept])
    assert torch.equal(other.labels, (scene.labels + 1) % 6)
    assert torch.equal(other.objects, scene.objects)
    assert ((other.pixels != scene.pixels).any(1) & scene.objects).any((1, 2)).all()


def test_the_object_alone_goes(scene: Scene) -> None:
    other = intervene("object-removed", COUNT, 3)
    kept = ~scene.objects[:, None].expand_as(scene.pixels)
    assert torch.equal(other.pixels[kept], scene.pixels[kept])
    assert other.labels.tolist() == [-1] * COUNT
    assert not other.objects.any()
    assert (other.distractors & ~scene.distractors & ~scene.objects).sum() == 0


@pytest.mark.parametrize("kind", INTERVENTIONS[4:])
def test_filled_pixels_take_the_colour_and_the_others_stay(kind: str, scene: Scene) -> None:
    colour = torch.tensor([0.1, 0.2, 0.3])
    other = intervene(kind, COUNT, 3, fill=colour)
    mask = {"object-only": ~scene.objects, "object-filled": scene.objects, "distractors-filled": scene.distractors}[
        kind
    ]
    filled = mask[:, None].expand_as(scene.pixels)
    assert torch.equal(other.pixels[~filled], scene.pixels[~filled])
    assert torch.equal(other.pixels.movedim(1, 3)[mask], colour.expand(int(mask.sum()), 3))
    assert torch.equal(other.labels, scene.labels)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(BadInput, match="count >= 1"):
        draw(0)
    with pytest.raises(UnknownName, match="object-removed"):
        intervene("object-remove", 1)
