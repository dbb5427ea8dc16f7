"""What the contests are about: networks with random weights, copied for each contender, and images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

import xaikit
from tests.speed.contest import peak_bytes
from xaikit.run.context import Context

__all__ = ["MEAN", "STD", "Subject", "subject"]

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Subject:
    """One network in as many copies as there are contenders.

    Args:
        classifier: ours, in channels_last.
        pixels: (N, 3, 224, 224) in [0, 1].
        inputs: the same, normalised.
        plain: the network as torchvision made it, for the peers to copy.
        layer: target layer.
    """

    classifier: xaikit.Classifier
    pixels: Tensor
    inputs: Tensor
    plain: nn.Module
    layer: str

    def peer(self) -> nn.Module:
        """Return a copy of the network for one peer."""
        return copy.deepcopy(self.plain)

    def bare(self, count: int | None = None) -> Tensor:
        """Run a bare forward in our memory format, on the first `count` images."""
        with torch.no_grad():
            return self.classifier.network(self.inputs[:count].contiguous(memory_format=torch.channels_last))

    def bare_forwards(self, total: int) -> None:
        """Run `total` bare forwards in our memory format and portions."""
        portion = self.portion
        images = self.inputs[:1].expand(portion, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            for done in range(0, total, portion):
                self.classifier.network(images[: total - done])

    def of_a_bare_portion(self, work: Callable[[], object]) -> float:
        """Return the peak memory of `work`, as a multiple of that of bare forwards of one portion."""
        return round(peak_bytes(work) / peak_bytes(lambda: self.bare_forwards(self.portion)), 2)

    @property
    def portion(self) -> int:
        """How many images xaikit takes at once unless told otherwise."""
        return Context().portion(self.classifier, (self.pixels.shape[2], self.pixels.shape[3]))


def subject(name: str, layer: str, count: int = 8) -> Subject:
    """Return a subject on the GPU if there is one."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = torchvision.models.get_model(name, weights=None).eval().to(device)
    classifier = xaikit.Classifier(copy.deepcopy(plain), MEAN, STD, size=224, layer=layer)
    classifier.outline()
    pixels = torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    return Subject(classifier, pixels, classifier.normalize(pixels), plain, layer)
