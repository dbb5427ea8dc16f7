"""Measures against Quantus 0.6 where both measure the same, and the difference made plain where they do not.

Quantus brings the GUI OpenCV, so that it stands in no extra that tests install; evaluation/speed/pixel_flipping.py says
how to run this beside it. It perturbs what the network is given: normalised images, whose baseline 0 is our fill
"mean".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import pictures, small
from xaikit.foundation.identity import generators
from xaikit.measures.base import Subject
from xaikit.measures.complexity.entropy import Entropy
from xaikit.measures.complexity.sparseness import Sparseness
from xaikit.measures.faithfulness.faithfulness_correlation import FaithfulnessCorrelation
from xaikit.measures.faithfulness.infidelity import Infidelity
from xaikit.measures.faithfulness.subsets import GridSubsets
from xaikit.measures.localisation.energy_inside import EnergyInside
from xaikit.measures.localisation.pointing_game import PointingGame
from xaikit.measures.localisation.rank_accuracy import RankAccuracy
from xaikit.measures.randomisation.random_logit import RandomLogit
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve
from xaikit.measures.robustness.max_sensitivity import MaxSensitivity
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

pytestmark = [
    pytest.mark.backends,
    pytest.mark.filterwarnings("ignore"),  # those of Quantus
]

SIZE = (12, 10)
PIXELS = SIZE[0] * SIZE[1]


@pytest.fixture
def quantus() -> ModuleType:
    return pytest.importorskip("quantus", reason="quantus is not installed, see evaluation/speed/pixel_flipping.py")


@dataclass
class Asked:
    """One subject, and the same as Quantus takes it."""

    subject: Subject

    @property
    def network(self) -> nn.Module:
        return self.subject.classifier.network

    def given(self, pixels: Tensor) -> np.ndarray:
        return self.subject.classifier.normalize(pixels).numpy()

    def __call__(self, metric: Any, softmax: bool = False, **more: Any) -> Tensor:
        found = metric(
            self.network,
            self.given(self.subject.pixels),
            self.subject.target.numpy(),
            a_batch=more.pop("maps", self.subject.maps)[:, None].numpy().copy(),
            channel_first=True,
            softmax=softmax,
            **more,
        )
        return torch.tensor(np.array(found, dtype=np.float64))


def evaluating(channels: int) -> Classifier:
    classifier = small(channels)
    classifier.network.eval()
    return classifier


def asked(channels: int = 1) -> Asked:
    classifier, pixels = evaluating(channels), pictures(4, channels, SIZE)
    maps = pictures(4, 1, SIZE, seed=1)[:, 0]
    assert all(len(one.unique()) == PIXELS for one in maps)
    return Asked(Subject(classifier, pixels, maps, classifier(pixels).argmax(1)))


def explained() -> Asked:
    classifier, pixels = evaluating(3), pictures(4, 3, SIZE)
    method = METHODS.get("integrated-gradients").build(classifier, steps=4)
    made = method.attribute(pixels)
    return Asked(Subject(classifier, pixels, made.heatmap(), made.target, method=method, attribution=made))


def quiet(metric: Any, **switches: Any) -> Any:
    return metric(normalise=False, abs=False, return_aggregate=False, disable_warnings=True, **switches)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_flipping_is_the_deletion_curve(quantus: ModuleType, channels: int) -> None:
    """Theirs orders the values of all channels, ours pixels: the same where a step is whole pixels."""
    one = asked(channels)
    theirs = one(quiet(quantus.PixelFlipping, features_in_step=10 * channels, perturb_baseline=0.0), softmax=True)
    ours = curve(one.subject, KeepProtocol(12, "binary", order="highest"))
    torch.testing.assert_close(ours.o[:, 1:], theirs, rtol=0, atol=1e-6)


def test_faithfulness_correlation(quantus: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the very pixels that ours draws; ours draws superpixels, which single pixels are here."""
    one, runs, removed = asked(), 30, 24
    regions = GridSubsets(runs, "mean", max(SIZE), removed)
    streams = generators(0, one.subject.hashes, repr(regions))
    drawn = torch.stack([regions.draw(stream, SIZE) for stream in streams], 1)
    places = iter(drawn.flatten(0, 1))

    def chosen(count: int, size: int, replace: bool) -> np.ndarray:
        assert (count, size, replace) == (PIXELS, removed, False)
        return next(places).nonzero()[:, 0].numpy()

    with monkeypatch.context() as patched:
        patched.setattr(np.random, "choice", chosen)
        theirs = one(quiet(quantus.FaithfulnessCorrelation, nr_runs=runs, subset_size=removed, perturb_baseline=0.0))
    ours = FaithfulnessCorrelation(max(SIZE), removed / PIXELS, runs).compute(one.subject)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_infidelity_removes_one_square_after_the_other_and_does_not_put_them_back(quantus: ModuleType) -> None:
    """Theirs is no mean over single squares: block k stands for blocks 1 to k, and the map is not scaled.

    Its squares have to tile the image, or it fails.
    """
    one, side = asked(), 2
    subject = one.subject
    metric = quiet(quantus.Infidelity, perturb_baseline=0.0, perturb_patch_sizes=[side], n_perturb_samples=1)
    theirs = one(metric)
    inputs = subject.classifier.normalize(subject.pixels)
    with torch.no_grad():
        clean = one.network(inputs)
        said, found, gone = [], [], torch.zeros(SIZE, dtype=torch.bool)
        for top, left in product(range(0, SIZE[0], side), range(0, SIZE[1], side)):
            gone[top : top + side, left : left + side] = True
            difference = inputs * gone
            drop = clean - one.network(inputs - difference)
            said.append((subject.maps * difference[:, 0]).sum((1, 2)))
            found.append(drop.gather(1, subject.target[:, None])[:, 0])
    cumulative = (torch.stack(said) - torch.stack(found)).square().mean(0).double()
    torch.testing.assert_close(theirs, cumulative, rtol=1e-4, atol=1e-5)
    ours = Infidelity(patches=50).compute(subject)
    assert not torch.allclose(ours, theirs, rtol=0.1)


def test_localisation(quantus: ModuleType) -> None:
    one = asked()
    masks = torch.zeros(4, *SIZE, dtype=torch.bool)
    masks[:, 3:9, 2:7] = True
    masks[0] = one.subject.maps[0] == one.subject.maps[0].max()
    masks[1] = ~masks[0]
    one.subject.masks = masks
    segments = {"s_batch": masks[:, None].numpy()}
    for measure, metric in (
        (PointingGame(), quantus.PointingGame),
        (EnergyInside(), quantus.RelevanceMassAccuracy),
        (RankAccuracy(), quantus.RelevanceRankAccuracy),
    ):
        theirs = one(quiet(metric), **segments)
        torch.testing.assert_close(measure.compute(one.subject), theirs, rtol=0, atol=1e-6, msg=measure.name)


def test_ties_are_hits_there_and_chances_here(quantus: ModuleType) -> None:
    """A map of ones but for one pixel always hits there; here it scores the share of the ones on the evidence."""
    one = asked()
    one.subject.masks = torch.zeros(4, *SIZE, dtype=torch.bool)
    one.subject.masks[:, :3] = True
    one.subject.maps = torch.ones(4, *SIZE)
    one.subject.maps[:, -1, -1] = 0
    theirs = one(quiet(quantus.PointingGame), s_batch=one.subject.masks[:, None].numpy())
    assert theirs.tolist() == [1.0] * 4
    assert PointingGame().compute(one.subject).tolist() == [30 / 119] * 4


def test_sparseness_and_complexity(quantus: ModuleType) -> None:
    """Theirs adds 1e-7 to each value; their complexity is in nats, ours a share of ln P."""
    one = asked()
    maps = one.subject.maps.double()
    sparseness = one(quiet(quantus.Sparseness), maps=maps)
    torch.testing.assert_close(Sparseness().compute(one.subject), sparseness, rtol=0, atol=1e-6)
    complexity = one(quiet(quantus.Complexity), maps=maps) / np.log(PIXELS)
    torch.testing.assert_close(Entropy().compute(one.subject), complexity, rtol=0, atol=1e-9)


def test_max_sensitivity(quantus: ModuleType) -> None:
    """On the very noise that ours draws, all of which keeps the class."""
    one, draws = explained(), 5
    subject, measure = one.subject, MaxSensitivity(draws=draws)
    noisy = measure.noisy(subject)
    assert all(torch.equal(subject.classifier(each).argmax(1), subject.target) for each in noisy)
    upcoming = iter(noisy)

    def perturbed(arr: np.ndarray, **_: Any) -> np.ndarray:
        return one.given(next(upcoming)).reshape(arr.shape)

    metric = quiet(quantus.MaxSensitivity, nr_samples=draws, perturb_func=perturbed)
    theirs = one(metric, maps=subject.explanation.values, explain_func=explainer(one, []))
    torch.testing.assert_close(measure.compute(subject), theirs, rtol=1e-3, atol=0)


def test_random_logit(quantus: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the class that theirs draws, by rank correlation; theirs takes structural similarity by default."""
    one = explained()
    classes: list[Tensor] = []
    similarity = quantus.similarity_func.correlation_spearman
    metric = quiet(quantus.RandomLogit, num_classes=3, similarity_func=similarity)
    theirs = one(metric, maps=one.subject.explanation.values, explain_func=explainer(one, classes))
    assert (classes[0] != one.subject.target).all()
    monkeypatch.setattr(RandomLogit, "other", lambda self, subject: classes[0])
    torch.testing.assert_close(RandomLogit().compute(one.subject), theirs, rtol=0, atol=1e-3)


def explainer(one: Asked, classes: list[Tensor]) -> Any:
    """Our method as a function of normalised images, as Quantus calls it; it notes which classes are asked for."""
    classifier, method = one.subject.classifier, one.subject.explainer

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        pixels = torch.as_tensor(inputs) * classifier.std + classifier.mean
        classes.append(torch.as_tensor(targets))
        return method.attribute(pixels, classes[-1]).values[:, None].numpy()

    return explain
