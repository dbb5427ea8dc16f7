"""Noise: a method's values on noisy copies of each image, one portion of copies after another.

    e_i ~ N(0, sigma^2),  sigma = level * (max x - min x)        of each image, in the network's coordinates
    v_i = values of the base method at x + e_i, before its channels are brought together

Each copy has a random stream of its own, from (seed, content of the image, number of the copy), so that values depend
neither on the batch nor on the portions. Sums are all that is kept, whatever the number of samples.

Shapes: inputs and e_i (N, C, H, W); v_i (N, C, H, W), or (N, h, w) of a method that reads a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.images.shapes import per_image
from xaikit.methods.base import METHODS, InputMethod, LayerMethod, Method, check_output
from xaikit.methods.gradient.saliency import Saliency
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Term = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class NoisyMethod(InputMethod):
    """What becomes of another method under noise.

    Args:
        samples: noisy copies of each image.
        level: standard deviation of the noise as a share of the image's range.
        base: name of the method that explains the copies; `saliency` is the signed gradient here.
        base_params: parameters of that method, and `layer` for one that reads a layer.
    """

    samples: Count = 50
    level: NotNegative = 0.15
    base: str = "saliency"
    base_params: Mapping[str, Any] = field(default_factory=dict)

    family = "gradient"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        if isinstance(self.inner, NoisyMethod):
            raise BadInput(f"base: expected a method without noise of its own, got {self.base}; name what it smooths")

    @cached_property
    def inner(self) -> Method:
        """The method that explains the copies.

        Raises:
            UnknownName: no such method.
            BadInput: parameters that it does not have.
        """
        return METHODS.get(self.base).build(self.classifier, **self.base_params)

    def cost(self, size: tuple[int, int]) -> Cost:
        """The base method's passes a sample."""
        one = self.inner.cost(size)
        return Cost(self.samples * one.forwards, self.samples * one.backwards)

    def means(self, batch: Batch, *terms: Term) -> list[Tensor]:
        """Return the mean over copies of each term, (n, C, H, W) or (n, h, w).

        Args:
            batch: of the clean images.
            terms: functions of the values (m, ...) at copies and the images (m,) that these belong to.

        Raises:
            BadInput: a base method that needs probabilities, and a regression.
        """
        check_output(self.inner)
        there = batch.folded_for(self.samples) if isinstance(self.inner, Saliency) else batch
        spread = batch.inputs.amax((1, 2, 3)) - batch.inputs.amin((1, 2, 3))
        sigma = per_image(self.level * spread, batch.inputs)

        def explained(rows: Tensor, copies: Tensor) -> Tensor:
            noise = [_drawn(batch, row, copy) for row, copy in zip(rows.tolist(), copies.tolist(), strict=True)]
            noisy = batch.inputs[rows] + sigma[rows] * torch.stack(noise).to(batch.inputs)
            return self.inner.compute(there.at(noisy, rows)).values.detach()

        totals: list[Tensor] = []
        for rows, _, values in there.pairs(self.samples, explained, "noisy copies"):
            totals = totals or [values.new_zeros(len(batch), *values.shape[1:]) for _ in terms]
            for total, term in zip(totals, terms, strict=True):
                total.index_add_(0, rows, term(values, rows))
        return [total / self.samples for total in totals]

    def decided(self) -> dict[str, Any]:
        """Return what is settled by the base method: the layer that it reads."""
        return {"base_layer": str(self.inner.place)} if isinstance(self.inner, LayerMethod) else {}


def _drawn(batch: Batch, row: int, copy: int) -> Tensor:
    """Return the noise (C, H, W) of one copy of one image, on the CPU."""
    stream = generator(batch.context.seed, batch.hashes[row], "noise", str(copy))
    return torch.randn(batch.inputs.shape[1:], generator=stream, device="cpu")
