"""Two methods for the tests of the core, registered nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xaikit.methods.base import InputMethod, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class LayerGradient(LayerMethod):
    """Activation times gradient, summed over channels."""

    power: float = 1.0

    name: ClassVar[str] = "layer-gradient"
    family: ClassVar[str] = "activation"
    source: ClassVar[str] = "test"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def compute(self, batch: Batch) -> Values:
        activation, gradient = batch.activations_and_gradients(self.place)
        return Values((activation * gradient).sum(1) ** self.power)

    def cost(self, size):
        return Cost(1, 0.5)


@dataclass(frozen=True)
class Activation(LayerMethod):
    """The mean activation."""

    name: ClassVar[str] = "activation"
    family: ClassVar[str] = "activation"
    source: ClassVar[str] = "test"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})

    def compute(self, batch: Batch) -> Values:
        return Values(batch.activations(self.place).mean(1))

    def cost(self, size):
        return Cost(1)


@dataclass(frozen=True)
class Gradient(InputMethod):
    """The plain gradient, with some noise if asked for."""

    noise: float = 0.0
    background: Tensor | None = None

    name: ClassVar[str] = "gradient"
    family: ClassVar[str] = "gradient"
    source: ClassVar[str] = "test"
    needs: ClassVar[frozenset[str]] = frozenset({"input-gradient", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        drawn = [torch.randn(batch.pixels.shape[1:], generator=one, device="cpu") for one in batch.generators("noise")]
        gradient = batch.input_gradients
        noise = self.noise * torch.stack(drawn).to(gradient)
        return Values(gradient + noise, completeness=batch.scores, params={"drawn": [batch.size[0]] * len(batch)})

    def cost(self, size):
        return Cost(1, 1)
