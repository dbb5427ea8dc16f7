"""The target layer of image classifiers of transformers, with small configurations and random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import xaikit
from tests.zoo.networks import SIZE, TRANSFORMERS
from xaikit.model.classifier import Classifier

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xaikit[transformers]'")
pytestmark = pytest.mark.slow


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    suffix, options, *_ = TRANSFORMERS[name]
    config = getattr(transformers, f"{name}Config")(**options, num_labels=5)
    made: nn.Module = getattr(transformers, f"{name}ForImageClassification{suffix}")(config).eval()
    return made


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_default_layer_gives_the_grad_cam_of_one_by_hand(name: str) -> None:
    _, _, layer, shape, before = TRANSFORMERS[name]
    made = network(name)
    classifier = Classifier(made, size=SIZE, mean=0.5, std=0.5, channels=3)
    assert (classifier.layer, classifier.layers()[layer]) == (layer, shape)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    kept: list[Tensor] = []
    handle = made.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    logits = made(2 * pixels - 1).logits
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])

    def maps(tensor: Tensor) -> Tensor:
        return tensor if tensor.ndim == 4 else tensor[:, before:].transpose(1, 2).unflatten(2, shape[1:])

    expected = (maps(gradient).mean((2, 3), keepdim=True) * maps(kept[0])).sum(1).relu().detach()
    found = xaikit.attribute(classifier, pixels, 1, "grad-cam").values
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.amax()))
