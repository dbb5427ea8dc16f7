"""Kernel SHAP: Shapley values of the segments, computed by weighted regression.

    v(S) = score of x with the segments outside S filled
    pi(S) = (M - 1) / (C(M, |S|) |S| (M - |S|))
    phi = argmin sum_S pi(S) (v(S) - v(empty) - sum_{k in S} phi_k)^2    subject to   sum_k phi_k = v(full) - v(empty)
    map(u) = phi_k at every pixel u of segment k

In words: The image is cut into superpixels, about 64 by default, and the score is computed with many combinations of
them visible. Each superpixel gets its Shapley value: its effect averaged over all combinations of the others, estimated
by a weighted regression. The map is blocky, signed and specific to the class, and adds up over segments to the score
minus that of the empty image. Segmentation and fill decide much of it. It costs some 2,200 forwards; fewer are noisy.

The constraint holds exactly: it is eliminated, not weighted. Every coalition comes with its complement. Sizes are
enumerated from the smallest and largest inwards as long as the samples suffice; the rest is drawn with probabilities
pi, and repeated draws are scored once. With up to 12 segments all coalitions are scored by default, which gives exact
Shapley values.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed, one value per segment.
Units:  score (or probability) per segment, not divided by its area.
Source: Lundberg & Lee, NeurIPS 2017, theorem 2, arXiv:1705.07874.
Departs from source: features are superpixels, missing ones are filled; no regularisation.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import check_table
from xaikit.methods.base import METHODS, Values
from xaikit.methods.perturbation.scorer import Scorer
from xaikit.methods.perturbation.segment_method import SegmentMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_MOST_SEGMENTS = 1000  # the regression takes memory and time that grow with their square and cube
_ENUMERATED = 12  # largest number of segments whose coalitions are all scored by default


@METHODS.register
@dataclass(frozen=True)
class KernelShap(SegmentMethod):
    """Shapley values of the segments by weighted regression under the efficiency constraint.

    Args:
        samples: number of coalitions to score; None is 2 M + 2048, or all coalitions of at most 12 segments.
    """

    samples: Annotated[int, Ge(2)] | None = None

    name = "kernel-shap"
    source = "Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874"

    def compute(self, batch: Batch) -> Values:
        """Return each segment's Shapley value at its pixels, (n, H, W)."""
        segments, counts = self.segmented(batch)
        streams = batch.generators("kernel-shap")
        drawn = [
            draw_coalitions(count, self._budget(count), stream) for count, stream in zip(counts, streams, strict=True)
        ]
        scorer = Scorer(batch, self.fill, self.score, segments)
        with_empty = [torch.cat([kept.new_zeros(1, kept.shape[1]), kept]) for kept, _ in drawn]
        shapley_values, gaps = [], []
        for (kept, weights), scores, clean in zip(drawn, scorer.of_coalitions(with_empty), scorer.clean, strict=True):
            shapley_values.append(solve(kept, weights, scores[1:], scores[0], clean))
            gaps.append(shapley_values[-1].sum() - clean + scores[0])
        samples = {"samples": [len(kept) for kept, _ in drawn]}
        return self.spread(shapley_values, segments, counts, completeness=torch.stack(gaps), params=samples)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image, one for the empty coalition and one per scored coalition."""
        count = min(self.segments, size[0] * size[1])
        return Cost(2 + min(self._budget(count), 2**count - 2), 0)

    def _budget(self, count: int) -> int:
        """Return the largest number of coalitions of `count` segments to score.

        Raises:
            BadInput: there are too many segments to solve for, or `samples` is too small or too large.
        """
        if count > _MOST_SEGMENTS:
            raise BadInput(f"segments: expected at most {_MOST_SEGMENTS:,}, got {count:,}; lower segments")
        all_coalitions = 2**count - 2
        if self.samples is None:
            return all_coalitions if count <= _ENUMERATED else 2 * count + 2048
        if self.samples < min(2 * count, all_coalitions):
            raise BadInput(
                f"samples: expected at least twice the {count} segments, got {self.samples}; raise samples or lower "
                "segments"
            )
        check_table("samples", self.samples, count, "lower samples or segments")
        return self.samples


def draw_coalitions(count: int, samples: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return coalitions (s, count) bool without the empty and the full one, and their weights (s,) float64.

    Args:
        count: number of segments M.
        samples: largest number of coalitions s.
        stream: random generator.
    """
    sizes = range(1, count // 2 + 1)
    share = {size: (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes}
    kept = [torch.zeros(0, count, dtype=torch.bool, device="cpu")]
    weights = [torch.zeros(0, dtype=torch.float64, device="cpu")]
    left = samples
    while share:
        size = next(iter(share))
        number = math.comb(count, size) * (1 if 2 * size == count else 2)
        if number > left * share[size] / sum(share.values()) * (1 + 1e-9):
            break
        kept.append(_all_of_size(count, size))
        weights.append(torch.full((number,), share.pop(size) / number, dtype=torch.float64, device="cpu"))
        left -= number
    if share and left > 1:
        pairs, times = _pairs(count, left // 2, share, stream)
        kept.append(pairs)
        weights.append(times / times.sum() * sum(share.values()))
    return torch.cat(kept), torch.cat(weights)


def _all_of_size(count: int, size: int) -> Tensor:
    """Return every coalition of a size, and their complements, (s, count) bool."""
    members = torch.tensor(list(combinations(range(count), size)), device="cpu")
    kept = torch.zeros(len(members), count, dtype=torch.bool, device="cpu").scatter_(1, members, True)
    return kept if 2 * size == count else torch.cat([kept, ~kept])


def _pairs(count: int, number: int, share: dict[int, float], stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw coalitions with their complements; return the distinct ones and the number of draws of each."""
    probabilities = torch.tensor(list(share.values()), dtype=torch.float64, device="cpu")
    drawn = torch.multinomial(probabilities, number, replacement=True, generator=stream)
    sizes = torch.tensor(list(share), device="cpu")[drawn]
    ranks = torch.rand(number, count, generator=stream, dtype=torch.float32, device="cpu").argsort(1).argsort(1)
    kept = ranks < sizes[:, None]
    distinct, times = torch.unique(torch.cat([kept, ~kept]), dim=0, return_counts=True)
    return distinct, times.double()


def solve(kept: Tensor, weights: Tensor, scores: Tensor, empty: Tensor, full: Tensor) -> Tensor:
    """Return the weighted least-squares values (M,) that sum to `full - empty` exactly; NaN if a score is not finite.

    Args:
        kept: (s, M) bool coalitions, without the empty and the full one.
        weights: (s,) weights of the coalitions.
        scores: (s,) scores of the coalitions.
        empty: score of the empty coalition.
        full: score of the full coalition.

    Raises:
        BadInput: the coalitions do not determine the values.
    """
    origin = empty.cpu().double()
    total = full.cpu().double() - origin
    if kept.shape[1] == 1:
        return total[None].to(scores)
    chosen, root = kept.cpu().double(), weights.cpu().sqrt()
    last = chosen[:, -1:]
    design = chosen[:, :-1] - last
    targets = scores.cpu().double() - origin - last[:, 0] * total
    if not bool(targets.isfinite().all()):
        return torch.full_like(scores, torch.nan)[:1].expand(kept.shape[1])
    fitted = torch.linalg.lstsq(design * root[:, None], (targets * root)[:, None], driver="gelsd")
    if int(fitted.rank) < design.shape[1]:
        raise BadInput(
            f"samples: expected enough to determine the values of {kept.shape[1]} segments, got {len(kept)} different "
            "ones; raise samples or lower segments"
        )
    solution = fitted.solution[:, 0]
    return torch.cat([solution, (total - solution.sum())[None]]).to(scores)
