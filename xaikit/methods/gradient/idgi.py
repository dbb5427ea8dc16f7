"""IDGI: the weighting of a path method by which only the direction of the gradient counts.

    values of a step = g^2 / sum g^2 * (f(x_{j+1}) - f(x_j))        g = d score / d x at x_j, f the score

Each step along the path gives out exactly the change of the score over it, in shares of the squared gradient, so that
the values add up to the difference of the two scores at any number of steps. A step at which the gradient is zero gives
out nothing; what it misses is in the gap.

Source: Yang, Wang & Bilgic, CVPR 2023, arXiv:2303.14242.
"""

from typing import Literal

from torch import Tensor

Weighting = Literal["path", "idgi"]


def important_direction(gradient: Tensor, change: Tensor) -> Tensor:
    """Return the values (m, C, H, W) of steps of a path.

    Args:
        gradient: (m, C, H, W) at the beginning of each step.
        change: (m,) of the score over it.
    """
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    squares = (gradient / largest.masked_fill(largest == 0, 1)).square()
    total = squares.sum((1, 2, 3), keepdim=True)
    return squares / total.masked_fill(total == 0, 1) * change.to(squares)[:, None, None, None]
