"""Subset responses and the measures on them: an additive model, plain loops, and what methods share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.networks import additive, heatmaps, pictures, small, true_shares
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.images.hashes import image_hashes
from xaikit.measures.base import Subject
from xaikit.measures.faithfulness.faithfulness_correlation import FaithfulnessCorrelation
from xaikit.measures.faithfulness.infidelity import ExplainedFraction, Infidelity
from xaikit.measures.faithfulness.sensitivity_n import SensitivityN
from xaikit.measures.faithfulness.subsets import GridSubsets, Patches, Regions, responses
from xaikit.methods.base import METHODS
from xaikit.run.context import Context
from xaikit.zoo.load import load

SIZE = (16, 21)
GRID = GridSubsets(30, "mean", 5, 4)
SQUARES = Patches(30, "mean", (0.1, 0.25, 0.5))


def known(sign: float = 1.0, shift: float = 0.0, size: tuple[int, int] = SIZE) -> Subject:
    """An additive model with the true share of every pixel as its map."""
    classifier, pixels, target = additive(), pictures(4, size=size), torch.tensor([0, 1, 2, 1])
    return Subject(classifier, pixels, sign * true_shares(classifier, pixels, target) + shift, target)


def other(count: int = 4, **changes: Any) -> Subject:
    classifier, pixels = small(), pictures(count, size=SIZE)
    return Subject(classifier, pixels, heatmaps(count, SIZE), torch.tensor([0, 1, 2, 1] * 2)[:count], **changes)


def drawn(regions: Regions, subject: Subject) -> Tensor:
    streams = generators(0, image_hashes(subject.pixels), repr(regions))
    return torch.stack([regions.draw(one, subject.size) for one in streams])


@pytest.mark.parametrize("regions", [GRID, SQUARES], ids=["grid", "squares"])
def test_both_sides_are_their_definition(regions: Regions) -> None:
    subject = other()
    said, found = responses(subject, regions)
    classifier, regions_drawn = subject.classifier, drawn(regions, subject)
    with classifier.borrowed(), torch.no_grad():
        for image in range(4):
            inside = regions.inside(regions_drawn[image], SIZE)
            inputs = classifier.normalize(subject.pixels[image : image + 1])
            logits = classifier.logits(torch.cat([inputs, inputs * ~inside[:, None]]))[:, subject.target[image]]
            torch.testing.assert_close(found[image], (logits[0] - logits[1:]).double(), rtol=0, atol=1e-5)
            expected = (subject.maps[image].double() * inside).sum((1, 2))
            torch.testing.assert_close(said[image], expected, rtol=0, atol=1e-9)


def test_a_grid_removes_whole_superpixels() -> None:
    inside = GRID.inside(drawn(GRID, other())[0], SIZE)
    rows, columns = torch.arange(16) * 5 // 16, torch.arange(21) * 5 // 21
    for one in inside:
        cells = {(int(rows[y]), int(columns[x])) for y, x in one.nonzero()}
        assert len(cells) == 4
        assert int(one.sum()) == sum(int((rows == row).sum() * (columns == column).sum()) for row, column in cells)


def test_squares_lie_inside_and_reach_every_pixel() -> None:
    squares = Patches(20000, "mean", (0.1, 0.25, 1.0))
    boxes = squares.draw(torch.Generator().manual_seed(0), SIZE)
    top, left, bottom, right = boxes.unbind(1)
    assert (boxes >= 0).all()
    assert (bottom <= 16).all()
    assert (right <= 21).all()
    assert torch.equal(bottom - top, right - left)
    assert set((bottom - top).tolist()) == {2, 4, 16}
    assert squares.inside(boxes[bottom - top == 2], SIZE).any(0).all()


def test_a_grid_finer_than_the_image_takes_pixels() -> None:
    fine = GridSubsets(10, "mean", 14, 3)
    assert GridSubsets.grid(14, (9, 21)) == (9, 14)
    assert fine.inside(fine.draw(torch.Generator(), (4, 4)), (4, 4)).sum((1, 2)).tolist() == [3] * 10


@pytest.mark.parametrize("fill", ["mean", "black", "image-mean"])
def test_the_truth_of_an_additive_model(fill: Any) -> None:
    subject = known()
    network, classifier = subject.classifier.network, subject.classifier
    if fill != "mean":  # the share that a pixel has beyond what it becomes
        filled = subject.pixels.mean((2, 3), keepdim=True) if fill == "image-mean" else subject.pixels.new_zeros(1)
        inputs = classifier.normalize(filled.expand_as(subject.pixels).double())
        of_fill = network.shares(inputs)[torch.arange(4), subject.target]  # type: ignore[operator]
        whole = network.shares(classifier.normalize(subject.pixels.double()))  # type: ignore[operator]
        subject.maps = (whole[torch.arange(4), subject.target] - of_fill).detach()
    ones, zeros = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    curve = SensitivityN(fill=fill).curve(subject)
    torch.testing.assert_close(curve, torch.ones_like(curve), rtol=0, atol=1e-6)
    for correlation in ("pearson", "spearman"):
        values = FaithfulnessCorrelation(fill=fill, correlation=correlation).compute(subject)  # type: ignore[arg-type]
        torch.testing.assert_close(values, ones, rtol=0, atol=1e-6 if correlation == "pearson" else 1e-3)
    torch.testing.assert_close(Infidelity(fill=fill).compute(subject), zeros, rtol=0, atol=1e-9)
    torch.testing.assert_close(ExplainedFraction(fill=fill).compute(subject), ones, rtol=0, atol=1e-9)


def test_the_truth_upside_down() -> None:
    subject = known(sign=-1)
    torch.testing.assert_close(SensitivityN().compute(subject), -torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)
    found = responses(subject, Patches(200, "mean", (1 / 16, 1 / 8, 1 / 4)))[1]
    assert torch.equal(Infidelity().compute(subject), found.square().mean(1))
    assert ExplainedFraction().compute(subject).tolist() == [0.0] * 4


@pytest.mark.slow
def test_scale_does_not_matter_and_a_shift_only_to_squares() -> None:
    plain, scaled, shifted = known(size=(28, 28)), known(sign=1e-3, size=(28, 28)), known(shift=0.5, size=(28, 28))
    for measure in (FaithfulnessCorrelation(), SensitivityN()):
        for changed in (scaled, shifted):
            torch.testing.assert_close(measure.compute(changed), measure.compute(plain), rtol=0, atol=1e-9)
    torch.testing.assert_close(Infidelity().compute(scaled), Infidelity().compute(plain), rtol=0, atol=1e-9)
    assert (ExplainedFraction().compute(shifted) < 0.9).all()


def test_maps_and_networks_that_say_nothing() -> None:
    flat = known(sign=0, shift=0.1, size=(28, 28))
    assert FaithfulnessCorrelation().compute(flat).isnan().all()
    assert SensitivityN().compute(flat).isnan().all()
    zero = known(sign=0)
    assert ExplainedFraction().compute(zero).tolist() == [0.0] * 4
    dead = known()
    torch.nn.init.zeros_(dead.classifier.network.colours.weight)  # type: ignore[union-attr, arg-type]
    assert FaithfulnessCorrelation().compute(dead).isnan().all()
    assert Infidelity().compute(dead).tolist() == [0.0] * 4
    assert ExplainedFraction().compute(dead).isnan().all()


def test_an_image_with_one_superpixel_has_no_sensitivity() -> None:
    assert SensitivityN(cells=1).compute(known()).isnan().all()


def test_methods_share_what_the_network_says() -> None:
    facts: dict[Any, Tensor] = {}
    context = Context()
    first = other(context=context, image_facts=facts)
    value = FaithfulnessCorrelation().compute(first)
    assert context.counters.forwards == 4 * 200 + 4
    second = replace(first, maps=heatmaps(4, SIZE, seed=9), _shared={})
    assert not torch.equal(FaithfulnessCorrelation().compute(second), value)
    Infidelity().compute(second)
    ExplainedFraction().compute(first)
    assert context.counters.forwards == 2 * 4 * 200 + 4
    torch.testing.assert_close(FaithfulnessCorrelation().compute(other()), value, rtol=0, atol=1e-6)


def test_only_what_is_new_is_asked() -> None:
    facts: dict[Any, Tensor] = {}
    few = other(2, image_facts=facts)
    FaithfulnessCorrelation().compute(few)
    context = Context()
    more = replace(other(4, image_facts=facts, context=context), classifier=few.classifier)
    values = FaithfulnessCorrelation().compute(more)
    assert context.counters.forwards == 2 * 200 + 2
    torch.testing.assert_close(values, FaithfulnessCorrelation().compute(other()), rtol=0, atol=1e-6)
    for changed in (
        replace(more, context=Context(seed=1), _shared={}),
        replace(more, target=(more.target + 1) % 3, _shared={}),
        replace(more, classifier=additive(), _shared={}),
    ):
        assert not torch.allclose(FaithfulnessCorrelation().compute(changed), values)
    assert not torch.allclose(FaithfulnessCorrelation(fill="black").compute(more), values)


def test_a_portion_does_not_change_the_answer() -> None:
    whole = FaithfulnessCorrelation().compute(other())
    for size in (7, 16):
        values = FaithfulnessCorrelation().compute(other(context=Context(chunk_size=size)))
        torch.testing.assert_close(values, whole, rtol=0, atol=1e-5)


def test_noise_fill_belongs_to_the_image() -> None:
    measure = FaithfulnessCorrelation(fill="noise", subsets=20)
    whole, alone = other(), other()
    alone = Subject(alone.classifier, alone.pixels[2:3], alone.maps[2:3], alone.target[2:3])
    torch.testing.assert_close(measure.compute(alone), measure.compute(whole)[2:3], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("measure", "arguments", "words"),
    [
        (FaithfulnessCorrelation, {"share": 0}, "share: expected a number above 0 and below 1"),
        (FaithfulnessCorrelation, {"correlation": "kendall"}, "pearson or spearman"),
        (FaithfulnessCorrelation, {"fill": "zero"}, "mean, black"),
        (FaithfulnessCorrelation, {"subsets": 1}, "subsets: expected a whole number from 2"),
        (FaithfulnessCorrelation, {"cells": 0}, "cells: expected a whole number from 1"),
        (SensitivityN, {"sizes": ()}, "sizes: expected at least one"),
        (SensitivityN, {"sizes": [0, 2]}, "sizes: expected several of a whole number from 1"),
        (Infidelity, {"sides": (0.0,)}, "sides: expected several of a number above 0 and up to 1"),
        (Infidelity, {"patches": 1}, "patches: expected a whole number from 2"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(measure: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        measure(**arguments)


def test_a_list_of_sizes_is_the_tuple() -> None:
    assert SensitivityN(sizes=[1, 2]) == SensitivityN(sizes=(1, 2))  # type: ignore[arg-type]
    assert hash(Infidelity(sides=[0.5])) == hash(Infidelity(sides=(0.5,)))  # type: ignore[arg-type]


@pytest.mark.real
def test_on_photographs_a_method_beats_chance(real_data: Path) -> None:
    classifier = load("squeezenet1_0", weights=str(real_data / "weights" / "squeezenet1_0_imagenet.pth"), device="cpu")
    pixels = classifier.read(sorted((real_data / "imagenet").glob("*.jpg"))[:2])
    facts: dict[Any, Tensor] = {}
    values = {}
    for name in ("grad-cam", "random"):
        made = METHODS.get(name)(classifier).attribute(pixels)
        subject = Subject(classifier, pixels, made.heatmap(), made.target, attribution=made, image_facts=facts)
        values[name] = FaithfulnessCorrelation(subsets=50).compute(subject)
    assert (values["grad-cam"] > values["random"] + 0.2).all()
    assert (values["random"].abs() < 0.4).all()
