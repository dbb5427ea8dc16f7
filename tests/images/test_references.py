"""Drawn reference images."""

from __future__ import annotations

import torch

from xaikit.images.references import draw_references


def test_pictures_are_pictures():
    found = draw_references(4, 3, (20, 30))
    assert found.shape == (4, 3, 20, 30)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.flatten(1).std(1).min() > 0.05


def test_each_depends_on_the_seed_and_its_place_alone():
    found = draw_references(4, 3, (20, 30))
    assert torch.equal(draw_references(2, 3, (20, 30)), found[:2])
    assert not torch.equal(draw_references(1, 3, (20, 30), seed=1), found[:1])
    assert len({tuple(one.flatten().tolist()) for one in found}) == 4


def test_the_global_random_state_is_untouched():
    before = torch.get_rng_state()
    draw_references(2, 1, (9, 9))
    assert torch.equal(torch.get_rng_state(), before)


def test_edges_of_the_request():
    assert draw_references(0, 3, (8, 8)).shape == (0, 3, 8, 8)
    assert draw_references(1, 1, (1, 1)).shape == (1, 1, 1, 1)
