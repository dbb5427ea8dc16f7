"""Aligned rows: the linear map itself, and the same bits in every place of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import xaikit
from xaikit.core.aligned_rows import AlignedRows, aligned
from xaikit.core.context import Context
from xaikit.core.graph import folded

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


class Odd(nn.Module):
    """Odd linear maps called in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
        self.tokens = nn.Linear(5, 6)
        self.weight = nn.Parameter(torch.randn(3, 216))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = checkpoint(lambda rows: self.tokens(rows).relu(), tokens, use_reentrant=False)
        return F.linear(tokens.view(len(x), -1), self.weight)


class Traced(Odd):
    """The same without the checkpoint, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens(self.stem(x).flatten(2).transpose(1, 2)).relu()
        return F.linear(tokens.view(x.shape[0], 216), self.weight)


def odd(kind: type[nn.Module]) -> xaikit.Classifier:
    torch.manual_seed(0)
    network = kind()
    network.stem[1].running_mean = torch.tensor([0.1, -0.2, 0.3, 0.1, -0.1])
    network.stem[1].running_var = torch.tensor([0.5, 2.0, 1.5, 0.7, 3.0])
    return xaikit.Classifier(network.double(), size=8)


@pytest.mark.parametrize("kind", [Odd, Traced])
def test_views_and_checkpoints_of_linear_maps_work(kind: type[nn.Module]) -> None:
    clf, x = odd(kind), torch.rand(3, 3, 8, 8, dtype=torch.float64)
    found, expected = (
        xaikit.attribute(clf, x, method="saliency", context=context).values
        for context in (Context(padded_batch=2), Context())
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_a_network_is_traced_and_folded_under_a_padded_batch() -> None:
    clf, x = odd(Traced), torch.rand(3, 3, 8, 8, dtype=torch.float64)
    with Context(padded_batch=2).borrowed(clf):
        assert folded(clf) is not clf
    found = xaikit.attribute(odd(Traced), x, method="lrp", context=Context(padded_batch=2)).values
    torch.testing.assert_close(found, xaikit.attribute(clf, x, method="lrp").values, rtol=1e-10, atol=1e-12)


class Quantised(Tensor):
    """Stands for a weight that knows nothing but its linear map."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.linear:
            raise NotImplementedError(func.__name__)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def test_tensors_of_other_kinds_are_left_alone() -> None:
    x, weight = torch.randn(3, 5), torch.randn(2, 5)
    with AlignedRows():
        torch.testing.assert_close(F.linear(x, weight.to_sparse()), x @ weight.T)
        torch.testing.assert_close(F.linear(x, weight.as_subclass(Quantised)), x @ weight.T)
    sparse = weight.to_sparse()
    assert aligned(sparse) is sparse


def test_what_it_gives_is_contiguous() -> None:
    with AlignedRows():
        assert F.linear(torch.randn(3, 5), torch.randn(2, 5)).is_contiguous()


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
