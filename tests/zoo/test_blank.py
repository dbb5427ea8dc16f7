"""Networks without weights."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv
from torch import nn

from xaikit.zoo.empty_networks import blank, classes_of, drawn, untrained
from xaikit.zoo.registry import architecture


def test_a_blank_network_has_names_and_shapes_but_no_memory() -> None:
    real, empty = tv.squeezenet1_0(num_classes=3).state_dict(), blank(lambda: tv.squeezenet1_0(num_classes=3))
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in real.items()}
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert not empty.training


def test_what_an_architecture_computes_with_is_not_blank() -> None:
    network = blank(lambda: tv.regnet_y_400mf(num_classes=3))  # its widths come out of tensor arithmetic
    assert network.get_submodule("fc").weight.shape == (3, 440)


def test_drawing_repeats_and_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (drawn(lambda: nn.Linear(4, 4)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.get_parameter("weight"), other.get_parameter("weight"))
    assert not one.training


def test_an_untrained_network_has_logits_that_depend_on_the_image() -> None:
    """torchvision's vision transformers begin with a head of zeros."""

    def build() -> nn.Module:
        return architecture("texture-vit").build(6, 3, 16)

    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not drawn(build)(images).any()
    one, other = untrained(build)(images), untrained(build)(images)
    assert torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("classes", [1, 2, 3, 1000])
def test_the_number_of_classes_is_read_off_the_head(classes: int) -> None:
    def build(count: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, count))

    assert classes_of(build(classes).state_dict(), build) == classes
    assert classes_of(nn.Conv2d(3, 8, 3).state_dict(), build) is None
