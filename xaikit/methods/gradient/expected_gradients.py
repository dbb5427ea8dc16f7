"""Expected gradients (GradientSHAP): integrated gradients averaged over reference images, by sampling.

    values = mean_k (x + e_k - x_k) * d score / d x at x_k + a_k (x + e_k - x_k)        k = 0 ... samples - 1

One a_k in each of `samples` equal parts of [0, 1]: anywhere in it ("stratified") or in the middle ("midpoint"). The x_k
go through all references in a random order, then again in another, so that each is used equally often. e_k is normal
noise, none unless asked for. All draws of an image depend on the seed and its content alone.

Completeness: the expectation of sum(values) is score(x) - mean_k score(x_k); the gap, which the sampling leaves, is
reported per image.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Erion et al., Nature Machine Intelligence 2021, arXiv:1906.10670, eq. 3; GradientSHAP: Lundberg & Lee's shap.
Departs from source: stratified instead of independent a_k, and references without replacement: unbiased, with less
    variance; references are drawn pictures unless given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.background import Background, background_inputs, background_size, check_background
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Points = Literal["stratified", "midpoint"]


@METHODS.register
@dataclass(frozen=True)
class ExpectedGradients(InputMethod):
    """Mean over references and points on the way from them of difference times gradient.

    Args:
        samples: gradients an image.
        references: pixels (B, C, H, W) of the images' size, or how many pictures are drawn.
        points: where in its part of [0, 1] each sample lies.
        deviation: of the noise added to the image, in the network's own coordinates.
    """

    samples: Count = 200
    references: Background = 20
    points: Points = "stratified"
    deviation: NotNegative = 0.0

    name = "expected-gradients"
    family = "gradient"
    source = "Erion et al., Nat. Mach. Intell. 2021, arXiv:1906.10670"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        check_background(self.references)

    def compute(self, batch: Batch) -> Values:
        """Return the mean over samples of difference times gradient, (n, C, H, W)."""
        references, flags = background_inputs(batch, self.references)
        chosen, along = self._drawn(batch, len(references))

        def contributions(rows: Tensor, samples: Tensor) -> Tensor:
            start = references[chosen[rows, samples]]
            difference = batch.inputs[rows] + self._noise(batch, rows, samples) - start
            path = start + along[rows, samples].reshape(-1, 1, 1, 1) * difference
            return difference * batch.score_gradients(path, rows)[1]

        total = torch.zeros_like(batch.inputs)
        for rows, _, values in batch.pairs(self.samples, contributions, "samples"):
            total.index_add_(0, rows, values)
        values = total / self.samples
        compared = self._reference_scores(batch, references).gather(1, chosen).mean(1)
        return Values(values, completeness=values.flatten(1).sum(1) - (batch.scores - compared), flags=flags)

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward a sample, and the class; the references run once a batch."""
        return Cost(1 + self.samples + background_size(self.references), self.samples)

    def _drawn(self, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
        """Return which reference (n, samples) and which point of the way (n, samples) each sample takes."""
        chosen, inside = [], []
        for stream in batch.generators("samples"):
            rounds = [torch.randperm(count, generator=stream, device="cpu") for _ in range(-(-self.samples // count))]
            chosen.append(torch.cat(rounds)[: self.samples])
            inside.append(torch.rand(self.samples, generator=stream, dtype=torch.float64, device="cpu"))
        within = torch.stack(inside) if self.points == "stratified" else 0.5
        along = (torch.arange(self.samples, dtype=torch.float64, device="cpu") + within) / self.samples
        along = along.expand(len(batch), -1)
        return torch.stack(chosen).to(batch.inputs.device), along.to(batch.inputs)

    def _noise(self, batch: Batch, rows: Tensor, samples: Tensor) -> Tensor | float:
        """Return the noise (m, C, H, W) of samples, each from a stream of its own."""
        if not self.deviation:
            return 0.0
        shape = batch.inputs.shape[1:]
        drawn = [
            torch.randn(
                shape, generator=generator(batch.context.seed, batch.hashes[row], "noise", str(sample)), device="cpu"
            )
            for row, sample in zip(rows.tolist(), samples.tolist(), strict=True)
        ]
        return self.deviation * torch.stack(drawn).to(batch.inputs)

    def _reference_scores(self, batch: Batch, references: Tensor) -> Tensor:
        """Return the score (n, B) of each reference for each image's target."""
        with torch.no_grad():
            work = batch.packed(
                len(references), lambda places: batch.context.forward(self.classifier, references[places])
            )
            logits = torch.cat([found for _, found in work])
        images, count = len(batch), len(references)
        rows = torch.arange(images * count, device=logits.device) // count
        return batch.target.take(rows).score(logits.repeat(images, 1)).detach().reshape(images, count)
