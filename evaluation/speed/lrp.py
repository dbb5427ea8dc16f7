"""LRP with the composite EpsilonPlus: one transposed map a layer against a hook on each module."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests", "lrp"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield lrp(subject("vgg16"))


def lrp(subject: Subject) -> Contest:
    """Return the contest; LRP needs two forwards and two backwards."""
    return subject.contest(
        "lrp",
        "EpsilonPlus",
        lambda: subject.attribute("lrp", subject.target, composite="epsilon-plus"),
        lambda: subject.gradients(2 * len(subject.pixels)),
        {"captum LRP": _captum, "zennit": _zennit},
    )


def _captum(subject: Subject) -> Work:
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule

    network = subject.copy()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.rule = Alpha1_Beta0_Rule()
    return lambda: LRP(network).attribute(subject.inputs, target=subject.target)


def _zennit(subject: Subject) -> Work:
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus
    from zennit.torchvision import VGGCanonizer

    network = subject.copy()

    def starts(logits: torch.Tensor) -> torch.Tensor:
        return torch.eye(logits.shape[1]).to(logits)[subject.target] * logits.detach()

    def explain() -> object:
        with Gradient(network, EpsilonPlus(canonizers=[VGGCanonizer()])) as attributor:
            return attributor(subject.inputs, starts)

    return explain
