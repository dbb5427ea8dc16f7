"""Relative attributing propagation: every neuron counts as important or not, and the mean decides which.

    last map      R_j = sum_i |c_ij| / (P_i + N_i) R_i                c_ij = x_j w_ij, P and N sums of c+ and |c-|
    other maps    C_j = sum_i c+_ij R+_i / P_i + |c-_ij| (R+_i + R-_i) / (P_i + N_i) + |c-_ij| R-_i / N_i
                  R_j = C_j - (sum C - sum R) / #{C != 0}             where C_j is not zero
    first map     z-box over the image's own smallest and largest value

The shift keeps the sum and turns the weakly contributing negative. Sums and poolings are shared by signed
contributions; biases take no part.

dense "released"     c+_ij R-_i / P_i in place of C's last term in dense maps, as in the released code
dense "convolution"  the same C in dense maps as in convolutions

Completeness: sum(values) = score, but for outputs to which nothing contributes (`absorbed_dead`).

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Nam et al., AAAI 2020, arXiv:1904.00605, eq. 5-10; the released code where dense maps and convolutions differ.
Departs from source: on signed inputs contributions are split by their own sign; a bias is not split among the inputs of
    the last map; BatchNorm is folded into the map before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.engine import accounted, relevance, start_at_the_score
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.rules import Given, LinearMap, negative_parts, positive_parts, z_box
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Form = Literal["released", "convolution"]


@METHODS.register
@dataclass(frozen=True)
class RAP(InputMethod):
    """Relative importance of each pixel, positive and negative.

    Args:
        dense: form of C in dense maps: as the "released" code has it, or that of a "convolution".
    """

    dense: Form = "released"

    name = "rap"
    family = "decomposition"
    source = "Nam et al., AAAI 2020, arXiv:1904.00605"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the score.

        Raises:
            BadInput: an operation without a rule, by its name.
        """
        composite = Composite(
            convolution=_relative,
            dense=partial(_relative, form=self.dense),
            first=_within_its_range,
            last=_absolute,
            bias="zero",
        )
        (found,) = relevance(batch, composite, lambda: [start_at_the_score(batch)])
        return accounted(found)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Two forwards, one of them of the folded copy, and a backward that runs each map anew twice."""
        return Cost(2, 4)


def _within_its_range(step: LinearMap, given: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by z-box over the smallest and largest value that the map reads of each image."""
    inputs = torch.cat([part.inputs.flatten(1) for part in step.parts], 1)
    shape = (-1, *[1] * (step.parts[0].inputs.ndim - 1))
    low, high = inputs.amin(1).reshape(shape), inputs.amax(1).reshape(shape)
    return z_box(step, given, ledger, low=low, high=high)


def _absolute(step: LinearMap, given: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by the size of contributions."""
    above, below = Given(positive_parts(step)), Given(negative_parts(step))
    both = above.outputs - below.outputs
    ledger.book("dead", torch.where(both == 0, given.to(both), 0))
    messages = _divided(given.to(both), both)
    shares = zip(above.handed_back(messages), below.handed_back(-messages), strict=True)
    return [one + other for one, other in shares]


def _relative(step: LinearMap, given: Tensor, ledger: Ledger, form: Form = "convolution") -> list[Tensor]:
    """Share by positive and negative contributions, then shift what is not zero so that the sum is kept."""
    above, below = Given(positive_parts(step)), Given(negative_parts(step))
    given = given.to(above.outputs)
    positive, negative = above.outputs, -below.outputs
    own, rest = (given, torch.zeros_like(given)) if form == "released" else (given.clamp_min(0), given.clamp_max(0))
    upper = _divided(own, positive)
    lower = _divided(given, positive + negative) + _divided(rest, negative)
    shares = zip(above.handed_back(upper), below.handed_back(-lower), strict=True)
    return [_shifted(one + other, given, ledger) for one, other in shares]


def _shifted(shares: Tensor, given: Tensor, ledger: Ledger) -> Tensor:
    """Return shares moved evenly, where they are not zero, to the sum of `given`, image by image."""
    rows = ledger.images or len(shares)
    flat, total = shares.reshape(rows, -1), given.reshape(rows, -1).sum(1, keepdim=True)
    live = flat != 0
    count = live.sum(1, keepdim=True)
    ledger.book("dead", torch.where(count == 0, total, 0))
    shift = (flat.sum(1, keepdim=True) - total) / count.clamp_min(1)
    return torch.where(live, flat - shift, 0).reshape(shares.shape)


def _divided(given: Tensor, by: Tensor) -> Tensor:
    usable = by.abs() > torch.finfo(by.dtype).tiny
    return torch.where(usable, given / torch.where(usable, by, 1), 0)
