"""The shipped texture-cnn uses the evidence and nothing else: one factor of the image is changed, the rest kept."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Subject:
    network: torch.nn.Module
    mean: Tensor
    std: Tensor

    def probabilities(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.network((pixels - self.mean) / self.std).softmax(1)


@pytest.fixture(scope="module")
def subject() -> Subject:
    folder = package_data("models/texture-cnn")
    recipe = Recipe.read(folder / "recipe.toml")
    network = architecture(recipe.arch).build(len(recipe.labels), recipe.channels, recipe.size)
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return Subject(network.eval(), *(torch.tensor(values).view(1, -1, 1, 1) for values in (recipe.mean, recipe.std)))


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
    left = of_class(subject.probabilities(intervene("object-removed", COUNT, SEED).pixels), clean)
    assert abs(left.mean() - NEUTRAL) <= 0.05
    assert left.max() < 0.5


def test_the_mean_colour_is_neutral(subject: Subject) -> None:
    nothing = subject.probabilities(subject.mean.expand(1, 3, 64, 64))
    assert (nothing - NEUTRAL).abs().max() <= 0.05


@pytest.mark.parametrize("kind", ["background-redrawn", "distractors-redrawn"])
def test_what_is_not_the_object_does_not_matter(kind: str, subject: Subject, clean: Scene, answer: Tensor) -> None:
    changed = subject.probabilities(intervene(kind, COUNT, SEED).pixels)
    assert (changed.argmax(1) == answer.argmax(1)).float().mean() >= 0.98
    assert (of_class(changed, clean) - of_class(answer, clean)).abs().mean() <= 0.03


def test_the_prediction_follows_the_texture(subject: Subject, clean: Scene) -> None:
    other = intervene("texture-replaced", COUNT, SEED)
    assert torch.equal(other.labels, (clean.labels + 1) % 6)
    assert (subject.probabilities(other.pixels).argmax(1) == other.labels).float().mean() >= 0.98


def test_the_object_alone_suffices(subject: Subject, clean: Scene) -> None:
    alone = intervene("object-only", COUNT, SEED, fill=subject.mean)
    assert of_class(subject.probabilities(alone.pixels), clean).mean() >= 0.9


def test_the_object_is_necessary(subject: Subject, clean: Scene) -> None:
    filled = intervene("object-filled", COUNT, SEED, fill=subject.mean)
    assert of_class(subject.probabilities(filled.pixels), clean).mean() <= 0.25


def test_the_distractors_can_go(subject: Subject, clean: Scene, answer: Tensor) -> None:
    filled = intervene("distractors-filled", COUNT, SEED, fill=subject.mean)
    change = of_class(subject.probabilities(filled.pixels), clean) - of_class(answer, clean)
    assert change.abs().mean() <= 0.03
