"""Aligned rows: the linear map itself, and the same bits in every place of a batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xaikit
from xaikit.core.aligned_rows import AlignedRows, aligned
from xaikit.core.context import Context

ODD = [(5, 4), (7, 10), (9, 3), (17, 33), (33, 1), (84, 10), (16, 16)]


def places(one: Tensor, count: int = 8) -> Tensor:
    """Return `count` batches of as many rows; `one` stands in another place of each."""
    batches = torch.randn(count, count, *one.shape, generator=torch.Generator().manual_seed(2), dtype=one.dtype)
    batches[range(count), range(count)] = one
    return batches


@pytest.mark.parametrize(("inputs", "outputs"), ODD)
@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_backward_are_the_linear_maps(inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias).double()
    x = torch.randn(2, 6, inputs, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(outputs, dtype=torch.float64)
    with AlignedRows():
        found = layer(x)
        gradients = torch.autograd.grad((found @ weights).sum(), [x, *layer.parameters()])
    expected = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    wanted = torch.autograd.grad((expected @ weights).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(gradients, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("inputs", "outputs"), ODD)
def test_an_image_has_the_same_bits_in_every_place(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs)
    for _ in range(20):
        scores, gradients = [], []
        direction = places(torch.randn(outputs))
        for place, batch in enumerate(places(torch.randn(inputs))):
            x = batch.requires_grad_(True)
            with AlignedRows():
                found = layer(x)
                gradient = torch.autograd.grad(found, x, direction[place])[0]
            scores.append(found[place])
            gradients.append(gradient[place])
        assert all(torch.equal(one, scores[0]) for one in scores)
        assert all(torch.equal(one, gradients[0]) for one in gradients)


def test_by_name_and_with_a_vector_for_weight() -> None:
    x, weight, vector = torch.randn(3, 5), torch.randn(2, 5), torch.randn(5)
    with AlignedRows():
        torch.testing.assert_close(F.linear(input=x, weight=weight, bias=None), x @ weight.T)
        torch.testing.assert_close(F.linear(x, vector), x @ vector)


def test_aligned_copies_only_what_is_not() -> None:
    whole = torch.arange(32.0)
    assert aligned(whole) is whole
    assert aligned(whole[1:]).data_ptr() % 64 == 0
    assert torch.equal(aligned(whole[1:]), whole[1:])
    assert aligned(torch.empty(3, device="meta")).is_meta


def test_only_a_padded_batch_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = AlignedRows.__enter__
    monkeypatch.setattr(AlignedRows, "__enter__", lambda mode: calls.append(1) or plain(mode))
    classifier = xaikit.Classifier(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), size=8)
    with Context().borrowed(classifier):
        assert not calls
    with Context(padded_batch=2).borrowed(classifier):
        assert calls
