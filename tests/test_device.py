"""The emulated second device refuses what CUDA refuses and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.device import CPU, SECOND, same, second_device
from tests.networks import GAPNet, bound, images


@pytest.fixture(autouse=True)
def _emulated() -> Iterator[None]:
    with second_device():
        yield


def there_and_here() -> tuple[Tensor, Tensor]:
    here = torch.arange(6.0).reshape(2, 3)
    return here.to(SECOND), here


INFERENCE = pytest.mark.parametrize("inference", [False, True])


@INFERENCE
def test_tensors_are_on_the_device_that_is_named(inference: bool) -> None:
    with torch.inference_mode(inference):
        there, here = there_and_here()
        on_second = (
            there,
            torch.zeros(2, device=SECOND),
            torch.tensor([1.0, 2.0], device="cuda"),
            torch.as_tensor([1.0, 2.0], device=there.device),
            torch.randn(2, device="cuda:0"),
            there.new_zeros(2),
            there.new_tensor([1.0]),
            torch.zeros_like(there),
            there.double(),
            here.to(there),
            nn.Linear(3, 2, device=SECOND).weight,
            nn.Linear(3, 2).to(SECOND).weight,
        )
        on_cpu = (there.cpu(), there.to("cpu"), there.to(here), torch.zeros(2), torch.zeros_like(there, device="cpu"))
        assert all(tensor.device == SECOND and tensor.is_cuda for tensor in on_second)
        assert all(tensor.device == CPU and type(tensor) is Tensor for tensor in on_cpu)
        assert torch.equal(there.cpu(), here)
        assert there.tolist() == here.tolist()
        assert float(there[1, 2]) == 5


@INFERENCE
@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: there @ here.T,
        lambda there, here: torch.cat([there, here]),
        lambda there, here: torch.stack([there[0, 0], here[0, 0]]),
        lambda there, here: torch.equal(there, here),
        lambda there, here: torch.where(there > 0, there, here),
        lambda there, here: there.index_select(0, torch.tensor([0])),
        lambda there, here: there.gather(1, torch.tensor([[0], [1]])),
        lambda there, here: there.index_put((torch.tensor([0]),), here[:1]),
        lambda there, here: here[torch.tensor([0], device=SECOND)],
        lambda there, here: here.add_(there),
        lambda there, here: here[0, 0].add_(there[0, 0]),
        lambda there, here: there.lerp(here, 0.5),
        lambda there, here: nn.Linear(3, 2)(there),
    ],
)
def test_tensors_of_both_devices_are_refused(mix: Callable[[Tensor, Tensor], Any], inference: bool) -> None:
    with torch.inference_mode(inference), pytest.raises(RuntimeError, match="tensors to be on the same device"):
        mix(*there_and_here())


@pytest.mark.parametrize(
    "compute",
    [
        lambda values: values * torch.tensor(2.0),
        lambda values: torch.where(values > 2, values, torch.tensor(0.0)),
        lambda values: values.masked_fill(values > 2, torch.tensor(0.5)),
        lambda values: values[torch.tensor([1, 0, 1])],
        lambda values: values[:, torch.tensor([True, False, True])],
        lambda values: values.index_put((torch.tensor([1]),), torch.tensor(9.0)),
        lambda values: values.clone().copy_(torch.ones(2, 3)),
    ],
)
def test_cpu_numbers_and_indices_are_taken_as_by_cuda(compute: Callable[[Tensor], Tensor]) -> None:
    there, here = there_and_here()
    same(compute(here), compute(there))


@INFERENCE
def test_cpu_tensors_take_copies_of_the_second_device(inference: bool) -> None:
    with torch.inference_mode(inference):
        there, here = there_and_here()
        copy = torch.zeros(2, 3)
        assert copy.copy_(there) is copy
        assert torch.equal(copy, here)
        copy[:1] = there[1:]
        assert torch.equal(copy[0], here[1])


def test_inference_tensors_are_those_of_the_cpu() -> None:
    there, here = there_and_here()
    with torch.inference_mode():
        for tensor in (there, here):
            assert not tensor[:, None].is_inference()
            assert (tensor * 2).is_inference()


@pytest.mark.parametrize(
    "draw",
    [
        lambda **options: torch.rand(50, device=SECOND, **options),
        lambda **options: torch.randperm(50, device=SECOND, **options),
        lambda **options: torch.zeros(50, device=SECOND).normal_(**options),
        lambda **options: torch.bernoulli(torch.full((50,), 0.5, device=SECOND), **options),
    ],
)
def test_random_numbers_come_from_the_devices_own_stream(draw: Callable[..., Tensor]) -> None:
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        draw(generator=torch.Generator())
    on_cpu, on_second = torch.get_rng_state(), torch.cuda.get_rng_state(SECOND)
    first, second = draw(), draw()
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), on_cpu)
    torch.cuda.set_rng_state(on_second, SECOND)
    assert torch.equal(draw(), first)
    torch.cuda.manual_seed(1)
    assert not torch.equal(draw(), first)


def test_numpy_is_refused() -> None:
    there, _ = there_and_here()
    for convert in (lambda values: values.numpy(), np.asarray):
        with pytest.raises(TypeError, match="Use Tensor"):
            convert(there)


def test_gradients_are_those_of_the_cpu() -> None:
    def gradients(device: torch.device) -> list[Tensor]:
        network = bound(GAPNet()).network.to(device)
        pixels = images(2).to(device).requires_grad_(True)
        score = network(pixels)[:, 1].exp().sum()
        (first,) = torch.autograd.grad(score, pixels, create_graph=True)
        first.square().sum().backward()
        assert pixels.grad is not None
        return [first.detach(), pixels.grad, *(weights.grad for weights in network.parameters())]

    for here, there in zip(gradients(CPU), gradients(SECOND), strict=True):
        same(here, there)


def test_writing_into_a_view_reaches_the_whole_and_its_gradient() -> None:
    def write(device: torch.device) -> tuple[Tensor, Tensor]:
        values = torch.arange(6.0).reshape(2, 3).to(device).requires_grad_(True)
        whole = values * 1
        whole[:, 0].mul_(3)
        assert whole[:, 1:].untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        return whole.detach(), torch.autograd.grad(whole.square().sum(), values)[0]

    for here, there in zip(write(CPU), write(SECOND), strict=True):
        same(here, there)


@pytest.mark.parametrize("moved", [False, True])
def test_a_backward_refuses_to_mix(moved: bool) -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Tensor) -> Tensor:
            return values * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            factors = torch.full((2, 3), 2.0)
            return gradient * (factors.to(gradient.device) if moved else factors)

    there, here = there_and_here()
    score = Doubled.apply(there.requires_grad_(True)).sum()
    if moved:
        same(torch.full_like(here, 2.0), torch.autograd.grad(score, there)[0])
    else:
        with pytest.raises(RuntimeError, match="tensors to be on the same device"):
            score.backward()
