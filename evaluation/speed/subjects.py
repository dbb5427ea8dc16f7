"""A subject is what a contest explains: a network with random weights and images, with a copy for each contender.

Bare passes run the network in the same layout as xaikit does: its weights as they are, its inputs in the memory format
that xaikit hands to it, and as many images in one pass.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import xaikit
from evaluation.speed.contest import OURS, Contest, Work
from xaikit.measures.cost.peak_memory import peak_bytes

__all__ = ["MEAN", "STD", "Peers", "Subject", "of_network", "subject"]

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Subject:
    """A network with random weights, and images for it.

    Args:
        name: of the network.
        original: the network as it was built; the other contenders run copies of it.
        classifier: another copy, wrapped for xaikit.
        pixels: images (N, 3, H, W) in [0, 1].
        precision: of every contender; "bfloat16" is autocast.
    """

    name: str
    original: nn.Module
    classifier: xaikit.Classifier
    pixels: Tensor
    precision: str = "float32"

    def copy(self) -> nn.Module:
        """Return a copy of the network for one contender."""
        return copy.deepcopy(self.original)

    def module(self, network: nn.Module) -> nn.Module:
        """Return the target layer in a copy of the network."""
        return network.get_submodule(self.layer)

    @property
    def layer(self) -> str:
        """Name of the target layer as hooks see it: without a functional ReLU that follows."""
        return self.classifier.layer.partition(" + ")[0]

    @cached_property
    def inputs(self) -> Tensor:
        """The normalised images, as other packages take them."""
        return self.classifier.normalize(self.pixels)

    @cached_property
    def target(self) -> Tensor:
        """Top class of each image, (N,)."""
        with torch.no_grad():
            return self.classifier(self.pixels).argmax(1)

    @cached_property
    def portion(self) -> int:
        """Images in one pass of every contender: all of the batch, and as many copies as xaikit chooses by memory."""
        chosen = xaikit.Context().portion(self.classifier, (self.pixels.shape[2], self.pixels.shape[3]))
        return max(len(self.pixels), chosen)

    @property
    def context(self) -> xaikit.Context:
        """Settings of xaikit's run."""
        return xaikit.Context(chunk_size=self.portion, precision=self.precision)

    def attribute(self, method: str, target: Any = None, **params: Any) -> xaikit.Attribution:
        """Explain the images by one method of xaikit."""
        return xaikit.attribute(self.classifier, self.pixels, target, method, context=self.context, **params)

    @cached_property
    def _bare(self) -> tuple[nn.Module, Tensor]:
        """A copy without weight gradients and one portion of images, in the layout that xaikit runs the network in."""
        layout: list[torch.memory_format] = []

        def look(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            last = arguments[0].is_contiguous(memory_format=torch.channels_last)
            layout.append(torch.channels_last if last else torch.contiguous_format)

        with self.classifier.network.register_forward_pre_hook(look), torch.no_grad():
            self.classifier(self.pixels[:1])
        repeated = self.inputs[torch.arange(self.portion) % len(self.inputs)]
        return self.copy().requires_grad_(False), repeated.contiguous(memory_format=layout[-1])

    def forwards(self, total: int | None = None) -> None:
        """Run bare forwards of `total` images; None is the batch."""
        network, images = self._bare
        left = len(self.pixels) if total is None else total
        with torch.inference_mode():
            while left > 0:
                network(images[:left])
                left -= len(images)

    def gradients(self, total: int | None = None) -> None:
        """Run bare forwards and backwards down to the input for `total` images; None is the batch."""
        network, images = self._bare
        left = len(self.pixels) if total is None else total
        while left > 0:
            inputs = images[:left].detach().requires_grad_(True)
            torch.autograd.grad(network(inputs)[:, 0].sum(), inputs)
            left -= len(images)

    def images_through(self, work: Work) -> int:
        """Return how many images `work` sends through xaikit's network."""
        counts: list[int] = []
        with self.classifier.network.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0]))):
            work()
        return sum(counts)

    def peak_megabytes(self, work: Work) -> int:
        """Return the most MB that tensors hold above the start while `work` runs."""
        return round(peak_bytes(work, self.pixels.device) / 1e6)

    def contest(
        self, name: str, about: str, ours: Work, bare: Work, peers: Peers | None = None, **settings: Any
    ) -> Contest:
        """Return the contest of xaikit, the bare passes that it needs and other packages, all in one precision.

        Args:
            name: of the method.
            about: parameters of the work.
            ours: by xaikit.
            bare: the bare passes.
            peers: makes the work of each other package; those that are not installed are left out.
            **settings: of the contest.
        """
        others = {"bare passes": bare, **self._installed(peers or {})}
        count, _, height, width = self.pixels.shape
        about = f"batch {count} at {height}x{width}, {self.precision}" + (f", {about}" if about else "")
        contenders = {OURS: ours} | {other: self._in_precision(work) for other, work in others.items()}
        return Contest(f"{name} {self.name}", about, contenders, **settings)

    def _installed(self, peers: Peers) -> dict[str, Work]:
        works = {}
        for name, build in peers.items():
            try:
                works[name] = build(self)
            except ModuleNotFoundError as error:
                if str(error.name).partition(".")[0] in ("xaikit", "evaluation"):
                    raise
                print(f"{name}: left out, {error.name} is not installed", file=sys.stderr)
        return works

    def _in_precision(self, work: Work) -> Work:
        if self.precision == "float32":
            return work

        def cast() -> object:
            with torch.autocast(self.pixels.device.type, torch.bfloat16):
                return work()

        return cast


Peers = Mapping[str, Callable[[Subject], Work]]


def subject(name: str, count: int = 8, side: int = 224, precision: str = "float32", device: str = "") -> Subject:
    """Return one of torchvision's networks and images, on the GPU if there is one."""
    torch.manual_seed(0)
    return of_network(name, torchvision.models.get_model(name, weights=None), count, side, precision, device)


def of_network(
    name: str, network: nn.Module, count: int = 8, side: int = 224, precision: str = "float32", device: str = ""
) -> Subject:
    """Return a network and images, on the GPU if there is one."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = network.eval().to(device)
    classifier = xaikit.Classifier(copy.deepcopy(network), MEAN, STD, size=side)
    pixels = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    return Subject(name, network, classifier, pixels, precision)
