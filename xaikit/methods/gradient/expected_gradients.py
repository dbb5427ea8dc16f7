"""Expected gradients (GradientSHAP): integrated gradients averaged over reference images by sampling.

    values = mean_k (x + e_k - x_k) * d score / d x at x_k + a_k (x + e_k - x_k)        k = 0 ... samples - 1

In words: Gradients are taken at random points between the image and reference images, and each is multiplied by the
difference of the two. Their mean is a map that is fine, signed and specific to the class, and that adds up to the score
minus the mean score of the references, up to sampling error, which is reported. It avoids the choice of one baseline
colour. The default references are drawn pictures; your own images ask a clearer question. Another seed gives a slightly
different map.

[0, 1] is divided into `samples` equal intervals, with one a_k in each: uniformly drawn ("stratified") or the midpoint
("midpoint"). The x_k run through all references in random order, reshuffled each time, so that all are used equally
often. e_k is normal noise, off by default. All draws depend on the seed and the content of the image only.

Completeness: the expectation of sum(values) is score(x) - mean_k score(x_k); the sampling error is reported per image.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Erion et al., Nature Machine Intelligence 2021, arXiv:1906.10670, eq. 3; GradientSHAP: Lundberg & Lee's shap.
Departs from source: stratified instead of independent a_k, and references without replacement: unbiased, with less
    variance; the default references are synthetic images.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.reference_images import Background, background_inputs, background_size, check_background
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Points = Literal["stratified", "midpoint"]


@METHODS.register
@dataclass(frozen=True)
class ExpectedGradients(InputMethod):
    """Mean of difference times gradient, over references and points on the paths from them.

    Args:
        samples: number of gradients per image.
        references: pixels (B, C, H, W) of the images' size, or the number of synthetic images.
        points: position of each sample within its interval: drawn ("stratified") or fixed ("midpoint").
        deviation: standard deviation of the noise added to the image, in the network's coordinates.
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
        """Check the references."""
        check_background(self.references)

    def compute(self, batch: Batch) -> Values:
        """Return the mean over samples of difference times gradient, (n, C, H, W)."""
        references, flags = background_inputs(batch, self.references)
        chosen, points = self._draw(batch, len(references))

        def contributions(rows: Tensor, samples: Tensor) -> Tensor:
            start = references[chosen[rows, samples]]
            difference = batch.inputs[rows] + self._noise(batch, rows, samples) - start
            path = start + points[rows, samples].reshape(-1, 1, 1, 1) * difference
            return difference * batch.score_gradients(path, rows)[1]

        total = torch.zeros_like(batch.inputs)
        for rows, _, values in batch.pairs(self.samples, contributions, "samples"):
            total.index_add_(0, rows, values)
        values = total / self.samples
        expected = batch.scores - self._reference_scores(batch, references).gather(1, chosen).mean(1)
        return Values(values, completeness=values.flatten(1).sum(1) - expected, flags=flags)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the class and for each reference, then one forward and one backward per sample."""
        return Cost(1 + self.samples + background_size(self.references), self.samples)

    def _draw(self, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
        """Return the index of the reference (n, samples) and the point in [0, 1] (n, samples) of each sample."""
        chosen, offsets = [], []
        for stream in batch.generators("samples"):
            rounds = [torch.randperm(count, generator=stream, device="cpu") for _ in range(-(-self.samples // count))]
            chosen.append(torch.cat(rounds)[: self.samples])
            offsets.append(torch.rand(self.samples, generator=stream, dtype=torch.float64, device="cpu"))
        offset = torch.stack(offsets) if self.points == "stratified" else 0.5
        points = (torch.arange(self.samples, dtype=torch.float64, device="cpu") + offset) / self.samples
        return torch.stack(chosen).to(batch.inputs.device), points.expand(len(batch), -1).to(batch.inputs)

    def _noise(self, batch: Batch, rows: Tensor, samples: Tensor) -> Tensor | float:
        """Return the noise (m, C, H, W); each sample has its own random stream."""
        if not self.deviation:
            return 0.0
        seed, shape = batch.context.seed, batch.inputs.shape[1:]
        noise = [
            torch.randn(
                shape,
                generator=generator(seed, batch.hashes[row], "noise", str(sample)),
                dtype=torch.float32,
                device="cpu",
            )
            for row, sample in zip(rows.tolist(), samples.tolist(), strict=True)
        ]
        return self.deviation * torch.stack(noise).to(batch.inputs)

    def _reference_scores(self, batch: Batch, references: Tensor) -> Tensor:
        """Return the score (n, B) of each reference for each image's target."""
        with torch.no_grad():
            portions = batch.packed(len(references), lambda i: batch.context.forward(self.classifier, references[i]))
            logits = torch.cat([portion for _, portion in portions])
        images, count = len(batch), len(references)
        rows = torch.arange(images * count, device=logits.device) // count
        return batch.target.take(rows).score(logits.repeat(images, 1)).detach().reshape(images, count)
