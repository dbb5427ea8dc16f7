"""Kernel SHAP: Shapley values of the segments, by the regression whose solution they are.

    v(S) = score of x with the segments outside S filled
    pi(S) = (M - 1) / (C(M, |S|) |S| (M - |S|))
    phi = argmin sum_S pi(S) (v(S) - v(empty) - sum_{k in S} phi_k)^2    subject to   sum_k phi_k = v(full) - v(empty)
    map(u) = phi_k at every pixel u of segment k

The constraint is met exactly: it is eliminated, not weighted. Coalitions come with their complements. Sizes are
enumerated completely from the smallest and largest inwards while the samples reach; the rest is drawn by the kernel,
and what is drawn twice is scored once. Up to 12 segments all coalitions are scored, which gives Shapley values exactly.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed, one value a segment.
Units:  score (or probability) a segment, not divided by its area.
Source: Lundberg & Lee, NeurIPS 2017, theorem 2, arXiv:1705.07874.
Departs from source: features are superpixels and the missing ones are filled; no regularisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import MaskedFill, Score, Scorer
from xaikit.methods.perturbation.segments import (
    Segmentation,
    check_segmentation,
    flags_of,
    segment,
    segment_counts,
    spread,
)
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_ENUMERATED = 12  # segments up to which all coalitions are scored when nobody says how many


@METHODS.register
@dataclass(frozen=True)
class KernelShap(InputMethod):
    """Shapley values of the segments by weighted regression under the efficiency constraint.

    Args:
        samples: coalitions that are scored; None is 2 M + 2048, or all where there are at most 12 segments.
        segmentation: slic, grid, quickshift, felzenszwalb, or segment numbers (H, W).
        segments: how many slic and grid look for.
        fill: what stands for missing segments: a fill by name, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" that of the class.
    """

    samples: Annotated[int, Ge(2)] | None = None
    segmentation: Segmentation | Tensor = "slic"
    segments: Count = 64
    fill: MaskedFill | Tensor = "mean"
    score: Score = "logit"

    name = "kernel-shap"
    family = "perturbation"
    source = "Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874"

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        check_segmentation(self.segmentation)

    def compute(self, batch: Batch) -> Values:
        """Return each segment's Shapley value at its pixels, (n, H, W)."""
        segments = segment(batch.pixels, self.segmentation, self.segments)
        counts = segment_counts(segments)
        streams = batch.generators("kernel-shap")
        drawn = [
            draw_coalitions(count, self._budget(count), stream) for count, stream in zip(counts, streams, strict=True)
        ]
        scorer = Scorer(batch, self.fill, self.score, segments)
        empty = [torch.zeros(1, count, dtype=torch.bool, device="cpu") for count in counts]
        scores = scorer.of_coalitions(
            [torch.cat([none, kept]) for none, (kept, _) in zip(empty, drawn, strict=True)], "forwards"
        )
        shares = [
            solve(kept, weights, found[1:], found[0], clean)
            for (kept, weights), found, clean in zip(drawn, scores, scorer.clean, strict=True)
        ]
        gaps = [one.sum() - clean + found[0] for one, found, clean in zip(shares, scores, scorer.clean, strict=True)]
        return Values(
            spread(shares, segments),
            completeness=torch.stack(gaps),
            flags=flags_of(counts),
            params={"samples": [len(kept) for kept, _ in drawn]},
            diagnostics={"segments": torch.tensor(counts, device="cpu")},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image, the empty one and one forward a coalition."""
        count = min(self.segments, size[0] * size[1])
        return Cost(2 + min(self._budget(count), 2**count - 2), 0)

    def _budget(self, count: int) -> int:
        """Return how many coalitions of `count` segments are scored at most.

        Raises:
            BadInput: too few to determine the values.
        """
        everything = 2**count - 2
        if self.samples is None:
            return everything if count <= _ENUMERATED else 2 * count + 2048
        if self.samples < min(2 * count, everything):
            raise BadInput(
                f"samples: expected at least twice the {count} segments, got {self.samples}; raise samples or lower "
                "segments"
            )
        return self.samples


def draw_coalitions(count: int, samples: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return coalitions (s, count) bool and their weights (s,) float64, s at most `samples`, empty and full left out.

    Args:
        count: number of segments M.
        samples: how many coalitions may be scored.
        stream: for those that are drawn.
    """
    sizes = range(1, count // 2 + 1)
    share = {size: (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes}
    kept, weights, left = (
        [torch.zeros(0, count, dtype=torch.bool, device="cpu")],
        [torch.zeros(0, dtype=torch.float64, device="cpu")],
        samples,
    )
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
    """Return every coalition of a size and of its complement, (s, count) bool."""
    members = torch.tensor(list(combinations(range(count), size)), device="cpu")
    kept = torch.zeros(len(members), count, dtype=torch.bool, device="cpu").scatter_(1, members, True)
    return kept if 2 * size == count else torch.cat([kept, ~kept])


def _pairs(count: int, number: int, share: dict[int, float], stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw coalitions with their complements; return the different ones and how often each came."""
    chances = torch.tensor(list(share.values()), dtype=torch.float64, device="cpu")
    picked = torch.tensor(list(share), device="cpu")[
        torch.multinomial(chances, number, replacement=True, generator=stream)
    ]
    places = torch.rand(number, count, generator=stream, device="cpu").argsort(1).argsort(1)
    kept = places < picked[:, None]
    different, times = torch.unique(torch.cat([kept, ~kept]), dim=0, return_counts=True)
    return different, times.double()


def solve(kept: Tensor, weights: Tensor, scores: Tensor, empty: Tensor, full: Tensor) -> Tensor:
    """Return the values (M,) of least weighted squares that sum to `full - empty` exactly, NaN where a score is none.

    Args:
        kept: (s, M) bool, without the empty and the full coalition.
        weights: (s,).
        scores: (s,).
        empty: score of the empty coalition.
        full: score of the full one.

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
    wanted = scores.cpu().double() - origin - last[:, 0] * total
    if not bool(wanted.isfinite().all()):
        return torch.full_like(scores, torch.nan)[:1].expand(kept.shape[1])
    found = torch.linalg.lstsq(design * root[:, None], (wanted * root)[:, None], driver="gelsd")
    if int(found.rank) < design.shape[1]:
        raise BadInput(
            f"samples: expected enough to determine the values of {kept.shape[1]} segments, got {len(kept)} different "
            "ones; raise samples or lower segments"
        )
    others = found.solution[:, 0]
    return torch.cat([others, (total - others.sum())[None]]).to(scores)
