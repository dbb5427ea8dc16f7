"""Relative attributing propagation: neurons that contribute less than the mean get negative relevance.

    last map      R_j = sum_i |c_ij| / (P_i + N_i) R_i                c_ij = x_j w_ij, P and N sums of c+ and |c-|
    other maps    C_j = sum_i c+_ij R+_i / P_i + |c-_ij| (R+_i + R-_i) / (P_i + N_i) + |c-_ij| R-_i / N_i
                  R_j = C_j - (sum C - sum R) / #{C != 0}             where C_j is not zero
    first map     z-box with the smallest and largest value of each image

In words: The logit is passed back through the network in proportion to the absolute contributions, and at every layer
the units that contribute less than the mean are pushed below zero. The map is fine and signed and adds up to the logit,
less what dead units absorb. Negative therefore means less important than the rest, not necessarily against the class.
The authors aim at separating an object from its background; for evidence against a class take contrastive-lrp.

The shift preserves the sum and makes weak contributions negative. Sums and poolings are shared by signed
contributions; biases are excluded.

dense "released"     c+_ij R-_i / P_i replaces the last term of C in dense maps, as in the released code
dense "convolution"  C in dense maps is that of convolutions

Completeness: sum(values) + absorbed_dead = score, where dead outputs are those to which nothing contributes.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Nam et al., AAAI 2020, arXiv:1904.00605, eq. 5-10; the released code where dense maps and convolutions differ.
Departs from source: on signed inputs contributions are split by their own sign; a bias is not split among the inputs of
    the last map; BatchNorm is folded into the map before it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.balance import accounted
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.propagation import relevance, start_at_the_score
from xaikit.methods.decomposition.rules import Given, LinearMap, negative_parts, positive_parts, z_box
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Form = Literal["released", "convolution"]


@METHODS.register
@dataclass(frozen=True)
class RAP(InputMethod):
    """Relative importance of each pixel, positive and negative.

    Args:
        dense: form of C in dense maps, "released" or "convolution" (see the module's docstring).
    """

    dense: Form = "released"

    name = "rap"
    family = "decomposition"
    source = "Nam et al., AAAI 2020, arXiv:1904.00605"
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 4)

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the score.

        Raises:
            BadInput: an operation (named) has no rule.
        """
        composite = Composite(
            convolution=_relative,
            dense=partial(_relative, form=self.dense),
            first=_within_its_range,
            last=_absolute,
            bias="zero",
        )
        (result,) = relevance(batch, composite, lambda: [start_at_the_score(batch)])
        return accounted(result)


def _within_its_range(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by z-box with the smallest and largest input of each image."""
    inputs = torch.cat([part.inputs.flatten(1) for part in step.parts], 1)
    inside = torch.cat([part.at_inputs(torch.ones_like(part.inputs)).flatten(1) for part in step.parts], 1) != 0
    shape = (-1, *[1] * (step.parts[0].inputs.ndim - 1))
    low = torch.where(inside, inputs, torch.inf).amin(1).reshape(shape)
    high = torch.where(inside, inputs, -torch.inf).amax(1).reshape(shape)
    return z_box(step, relevance, ledger, low=low, high=high)


def _absolute(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by the absolute value of contributions."""
    positive, negative = Given(positive_parts(step)), Given(negative_parts(step))
    total = positive.outputs - negative.outputs
    relevance = relevance.to(total)
    ledger.book("dead", torch.where(total == 0, relevance, 0))
    messages = _divided(relevance, total)
    shares = zip(positive.handed_back(messages), negative.handed_back(-messages), strict=True)
    return [plus + minus for plus, minus in shares]


def _relative(step: LinearMap, relevance: Tensor, ledger: Ledger, form: Form = "convolution") -> list[Tensor]:
    """Share by positive and negative contributions, then shift the nonzero shares so that the sum is preserved."""
    positive, negative = Given(positive_parts(step)), Given(negative_parts(step))
    relevance = relevance.to(positive.outputs)
    above, below = positive.outputs, -negative.outputs
    if form == "released":
        own, rest = relevance, torch.zeros_like(relevance)
    else:
        own, rest = relevance.clamp_min(0), relevance.clamp_max(0)
    upper = _divided(own, above)
    lower = _divided(relevance, above + below) + _divided(rest, below)
    shares = zip(positive.handed_back(upper), negative.handed_back(-lower), strict=True)
    return [_shifted(plus + minus, relevance, ledger) for plus, minus in shares]


def _shifted(shares: Tensor, relevance: Tensor, ledger: Ledger) -> Tensor:
    """Return shares whose nonzero entries are shifted equally so that each image sums to its relevance."""
    rows = ledger.rows(shares)
    flat, total = shares.reshape(rows, -1), relevance.reshape(rows, -1).sum(1, keepdim=True)
    live = flat != 0
    count = live.sum(1, keepdim=True)
    ledger.book("dead", torch.where(count == 0, total, 0))
    shift = (flat.sum(1, keepdim=True) - total) / count.clamp_min(1)
    return torch.where(live, flat - shift, 0).reshape(shares.shape)


def _divided(relevance: Tensor, outputs: Tensor) -> Tensor:
    """Return relevance / outputs, and zero where the outputs are zero."""
    usable = outputs.abs() > torch.finfo(outputs.dtype).tiny
    return torch.where(usable, relevance / torch.where(usable, outputs, 1), 0)
