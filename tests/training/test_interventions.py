"""The shipped texture networks use the evidence and nothing else: one factor of the image is changed, the rest kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.interventions import intervene
from xaikit.foundation.files import package_data
from xaikit.images.synthetic import Scene, draw
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture

COUNT = 100
SEED = 11
NEUTRAL = 1 / 6

scene_of = cache(partial(intervene, count=COUNT, seed=SEED))  # filled with the mean colour of both networks


@dataclass(frozen=True)
class Subject:
    network: torch.nn.Module
    mean: Tensor
    std: Tensor
    nothing: float  # how far the probabilities of the mean colour may lie from neutral

    def probabilities(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.network((pixels - self.mean) / self.std).softmax(1)


@pytest.fixture(
    scope="module",
    params=[("texture-cnn", 0.05), pytest.param(("texture-vit", 0.1), marks=pytest.mark.slow)],
    ids=lambda given: given[0],
)
def subject(request: pytest.FixtureRequest) -> Subject:
    name, nothing = request.param
    folder = package_data(f"models/{name}")
    recipe = Recipe.read(folder / "recipe.toml")
    network = architecture(recipe.arch).build(len(recipe.labels), recipe.channels, recipe.size)
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    assert recipe.mean == (0.5, 0.5, 0.5)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (recipe.mean, recipe.std))
    return Subject(network.eval(), mean, std, nothing)


@pytest.fixture(scope="module")
def clean() -> Scene:
    return draw(COUNT, SEED)


@pytest.fixture(scope="module")
def answer(subject: Subject, clean: Scene) -> Tensor:
    return subject.probabilities(clean.pixels)


def of_class(probabilities: Tensor, scene: Scene) -> Tensor:
    return probabilities.gather(1, scene.labels[:, None])[:, 0]


def test_clean_images_are_recognised_with_confidence(answer: Tensor, clean: Scene) -> None:
    assert (answer.argmax(1) == clean.labels).float().mean() >= 0.98
    assert of_class(answer, clean).mean() >= 0.9


def test_without_the_object_the_answer_is_neutral(subject: Subject, clean: Scene) -> None:
    left = of_class(subject.probabilities(scene_of("object-removed").pixels), clean)
    assert abs(left.mean() - NEUTRAL) <= 0.05
    assert left.max() < 0.5


def test_the_mean_colour_is_neutral(subject: Subject) -> None:
    probabilities = subject.probabilities(subject.mean.expand(1, 3, 64, 64))
    assert (probabilities - NEUTRAL).abs().max() <= subject.nothing


@pytest.mark.parametrize("kind", ["background-redrawn", "distractors-redrawn"])
def test_what_is_not_the_object_does_not_matter(kind: str, subject: Subject, clean: Scene, answer: Tensor) -> None:
    changed = subject.probabilities(scene_of(kind).pixels)
    assert (changed.argmax(1) == answer.argmax(1)).float().mean() >= 0.98
    assert (of_class(changed, clean) - of_class(answer, clean)).abs().mean() <= 0.03


def test_the_prediction_follows_the_texture(subject: Subject, clean: Scene) -> None:
    other = scene_of("texture-replaced")
    assert torch.equal(other.labels, (clean.labels + 1) % 6)
    assert (subject.probabilities(other.pixels).argmax(1) == other.labels).float().mean() >= 0.98


def test_the_object_alone_suffices(subject: Subject, clean: Scene) -> None:
    alone = scene_of("object-only")
    assert of_class(subject.probabilities(alone.pixels), clean).mean() >= 0.9


def test_the_object_is_necessary(subject: Subject, clean: Scene) -> None:
    filled = scene_of("object-filled")
    assert of_class(subject.probabilities(filled.pixels), clean).mean() <= 0.25


def test_the_distractors_can_go(subject: Subject, clean: Scene, answer: Tensor) -> None:
    filled = scene_of("distractors-filled")
    change = of_class(subject.probabilities(filled.pixels), clean) - of_class(answer, clean)
    assert change.abs().mean() <= 0.03
