"""The tail: what a network answers when a layer's activations are multiplied by factors, in many ways for one image.

    answer_i = read(tail(A (*) f_i))

"tail"  one image runs up to the layer, where it is expanded to a batch of one row for each set of factors
"full"  full forwards, if the tail cannot take another batch size than the stem (concatenation across the layer)

Every run of the tail has one row more, whose factors are all one: it must score what the image scored.

Shapes: activations (n, C, h, w); factors (m, C or 1, h or 1, w or 1); rows (P,), the image of each set of factors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from xaikit.foundation.memory import out_of_memory
from xaikit.model.hooks import Layer
from xaikit.model.target import Target
from xaikit.run.batch import Batch

_SMALL = 1e-3  # scores below this share of the largest logit are compared on the scale of the logits


@dataclass(frozen=True)
class Tail:
    """P runs of a network with a layer's activations multiplied.

    Args:
        batch: the images.
        layer: the layer whose activations are multiplied.
        rows: (P,) index of the image of each run, in ascending order.
        factors: returns the factors (m, C or 1, h or 1, w or 1) of runs (m,).
        read: returns the answers (m,) for targets and logits (m, K), such as `Target.score`.
        unit: word for the runs in progress reports.
    """

    batch: Batch
    layer: Layer
    rows: Tensor
    factors: Callable[[Tensor], Tensor]
    read: Callable[[Target, Tensor], Tensor]
    unit: str

    def answers(self) -> tuple[Tensor, Tensor, str]:
        """Return the answers (P,), those for the unchanged images (P,) from the same runs, and the path."""
        batch, start = self.batch, 0
        clean = self.read(batch.target, batch.logits).detach()[self.rows]
        changed = torch.zeros_like(clean)
        size = max(2, batch.context.portion(batch.classifier, batch.size)) - 1
        for image, count in enumerate(torch.bincount(self.rows, minlength=len(batch)).tolist()):
            for part, found in batch.context.portions(count, size, partial(self._of_tail, image, start)):
                if found is None:
                    return self._of_full_forwards(), clean, "full"
                clean[part], changed[part] = found[0], found[1:]
                if batch.context.progress is not None:
                    batch.context.progress(part.stop, len(changed), self.unit)
            start += count
        return changed, clean, "tail"

    def _of_tail(self, image: int, start: int, part: slice) -> tuple[slice, Tensor | None]:
        """Return some runs of an image, whose first is `start`, with the answers (m + 1,), unchanged first, or None."""
        batch, part = self.batch, slice(start + part.start, start + part.stop)
        factors = self.factors(torch.arange(part.start, part.stop, device=self.rows.device))
        factors = torch.cat([torch.ones_like(factors[:1]), factors])
        target = batch.target.take(torch.full((len(factors),), image, device=self.rows.device))
        batch.context.counters.forwards += len(factors)
        with torch.no_grad(), batch.classifier.probe() as probe:
            probe.replace(self.layer, lambda output: self.layer.changed(output, lambda maps: maps * factors.to(maps)))
            try:
                logits = batch.context.run(batch.classifier, batch.inputs[image : image + 1])
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                return part, None
        if len(logits) != len(factors):
            return part, None
        expected, largest = batch.scores[image], batch.logits[image].abs().amax()
        tolerance = max(1e-3, 8 * torch.finfo(batch.arithmetic).eps) * torch.maximum(expected.abs(), _SMALL * largest)
        is_clean = bool((target.score(logits)[0] - expected).abs() <= tolerance)
        return part, self.read(target, logits) if is_clean else None

    def _of_full_forwards(self) -> Tensor:
        """Return the answers (P,) of one full forward for each run."""

        def answers(part: Tensor) -> Tensor:
            factors, batch = self.factors(part), self.batch

            def change(maps: Tensor) -> Tensor:  # rows that pad a batch stay as they are
                return torch.cat([maps[: len(factors)] * factors.to(maps), maps[len(factors) :]])

            with torch.no_grad(), batch.classifier.probe() as probe:
                probe.replace(self.layer, lambda output: self.layer.changed(output, change))
                logits = batch.context.forward(batch.classifier, batch.inputs[self.rows[part]])
            return self.read(batch.target.take(self.rows[part]), logits)

        return torch.cat([found for _, found in self.batch.packed(len(self.rows), answers, self.unit)])
