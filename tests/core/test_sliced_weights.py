"""Sliced weights: the linear map itself, where it is sliced and where it is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import xaikit
from xaikit.core.sliced_weights import SlicedWeights, sliced_weights

WIDTHS = [(2048, 2048), (4096, 1024), (1024, 4096), (4112, 1040)]
SLICED = "_SlicedBackward"


def layer(inputs: int = 2048, outputs: int = 2048, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias).requires_grad_(False)


def rows(count: int, width: int = 2048) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count)).requires_grad_(True)


def how(output: Tensor) -> str:
    """Return the name of the operation that made a tensor."""
    assert output.grad_fn is not None
    return output.grad_fn.name()


@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_backward_are_the_linear_maps(inputs: int, outputs: int, bias: bool) -> None:
    one = layer(inputs, outputs, bias)
    x, direction = rows(5, inputs), torch.randn(5, outputs)
    with SlicedWeights():
        found = one(x)
    gradient = torch.autograd.grad(found, x, direction)[0]
    assert how(found) == SLICED
    assert found.is_contiguous()
    assert gradient.is_contiguous()
    exact = F.linear(x.double(), one.weight.double(), one.bias.double() if bias else None)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), direction.double() @ one.weight.double(), rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_an_image_has_the_same_bits_in_every_place(inputs: int, outputs: int) -> None:
    one, x, direction = layer(inputs, outputs), torch.randn(inputs), torch.randn(outputs)
    scores, gradients = [], []
    for place in range(8):
        batch, directions = rows(8, inputs).detach(), torch.randn(8, outputs)
        batch[place], directions[place] = x, direction
        batch.requires_grad_(True)
        with SlicedWeights():
            found = one(batch)
        scores.append(found[place])
        gradients.append(torch.autograd.grad(found, batch, directions)[0][place])
    assert all(torch.equal(score, scores[0]) for score in scores)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_a_gradient_of_a_gradient() -> None:
    one, x, direction = layer(), rows(4), torch.randn(4, 2048)
    with SlicedWeights():
        score = (one(x).square() * direction).sum()
    first = torch.autograd.grad(score, x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x)[0]
    weight = one.weight
    torch.testing.assert_close(first, 2 * (direction * F.linear(x, weight, one.bias)) @ weight, rtol=1e-4, atol=1e-4)
    expected = 4 * F.linear(first, weight) * direction @ weight
    torch.testing.assert_close(second, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "of",
    [
        torch.func.vmap,
        lambda one: lambda x: torch.func.grad(lambda inner: one(inner).square().sum())(x),
        lambda one: lambda x: torch.func.jvp(one, (x,), (x,))[1],
        lambda one: lambda x: torch.jit.trace(one, x)(x),
        lambda one: torch.compile(one, backend="eager"),
        lambda one: lambda x: torch.fx.symbolic_trace(nn.Sequential(one))(x),
    ],
    ids=["vmap", "grad", "jvp", "jit", "compile", "fx"],
)
def test_torch_can_transform_it(of: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> None:
    one, x = layer(), rows(5).detach()
    x = x.expand(2, *x.shape) if of is torch.func.vmap else x
    with SlicedWeights():
        found = of(one)(x)
    torch.testing.assert_close(found, of(one)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "x",
    [rows(1).detach().expand(8, 2048), rows(8, 4096).detach()[:, ::2], rows(2048, 8).detach().T],
    ids=["one row", "every other number", "columns"],
)
def test_rows_may_lie_in_memory_anyhow(x: Tensor) -> None:
    one = layer()
    given = x.detach().requires_grad_(True)
    with SlicedWeights():
        found = one(given)
    assert how(found) == SLICED
    torch.testing.assert_close(found, one(x), rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(found.sum(), given)[0]
    torch.testing.assert_close(gradient, one.weight.sum(0).expand(8, -1), rtol=1e-4, atol=1e-4)


def test_gradients_in_batches_and_forward() -> None:
    one, x, directions, tangent = layer(), rows(5), torch.randn(3, 5, 2048), torch.randn(2048, 2048)
    with SlicedWeights():
        gradients = torch.autograd.grad(one(x), x, directions, is_grads_batched=True)[0]
        with forward_ad.dual_level():
            dual = F.linear(x.detach(), forward_ad.make_dual(one.weight.detach(), tangent))
            forward = forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(gradients, directions @ one.weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(forward, F.linear(x.detach(), tangent), rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_what_is_left_alone() -> None:
    one, x = layer(), rows(8)
    with SlicedWeights():
        assert how(F.linear(input=x, weight=one.weight, bias=one.bias)) == SLICED
        for count in (1, 3, 129):
            assert how(one(rows(count))) != SLICED
        assert how(one(x.expand(2, 8, 2048))) != SLICED  # tokens
        assert how(layer(2048, 1024)(x)) != SLICED  # small
        assert how(layer(2048, 2049)(x)) != SLICED  # not to be divided
        assert how(F.linear(x, one.weight.T)) != SLICED  # columns in memory
        assert how(layer().requires_grad_(True)(x)) != SLICED
        assert how(layer().double()(x.double())) != SLICED
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert how(one(x)) != SLICED
        kept = checkpoint(one, x, use_reentrant=False)
        assert how(kept) != SLICED
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
            one(rows(8, 2000))
        assert how(F.linear(x, one.weight, one.bias[:1])) != SLICED  # one number for all
        assert how(layer(262144, 16)(rows(8, 262144))) != SLICED  # narrow
        assert how(layer(16, 262144)(rows(8, 16))) != SLICED
        nested = torch.nested.nested_tensor([rows(3).detach(), rows(5).detach()])
        assert [len(part) for part in F.linear(nested, one.weight, one.bias).unbind()] == [3, 5]
        with pytest.raises(RuntimeError, match="meta"):
            F.linear(x, one.weight, one.bias.to("meta"))
    assert how(one(x)) != SLICED


class Large(nn.Module):
    """A network with a large linear map and a small one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(inplace=True))
        self.large, self.scores = nn.Linear(2048, 2048), nn.Linear(2048, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(torch.relu_(self.large(self.stem(x).flatten(1))))


@pytest.mark.parametrize("method", ["grad-cam", "saliency", "lrp", "guided-backprop", "occlusion"])
def test_a_method_gives_what_it_gives_without(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, ...]] = []
    sliced = SlicedWeights.linear

    def seen(mode: SlicedWeights, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        runs.append(tuple(weight.shape))
        return sliced(mode, x, weight, bias)

    monkeypatch.setattr(SlicedWeights, "linear", seen)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    classifier = xaikit.Classifier(Large(), size=8, layer="stem")
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = {}
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found[threads] = xaikit.attribute(classifier, x, method=method, chunk_size=6).values
        assert ((2048, 2048) in runs) == (threads == 2)
    torch.testing.assert_close(found[2], found[1], rtol=1e-4, atol=1e-5 * float(found[1].abs().max()))


@pytest.mark.parametrize("network", [nn.Linear(2048, 1024), nn.Linear(16, 262144), nn.LazyLinear(2048), nn.ReLU()])
def test_a_network_without_large_linear_maps_is_not_watched(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert not isinstance(sliced_weights(network), SlicedWeights)
    assert isinstance(sliced_weights(nn.Sequential(network, layer())), SlicedWeights)
