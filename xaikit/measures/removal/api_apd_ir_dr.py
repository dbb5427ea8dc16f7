"""API, APD, IR and DR: what removing pixels does to the network's confidence.

    API   mean of  max(o - y, 0) / y     Average Probability Increase, higher is better, [0, inf)
    APD   mean of  max(y - o, 0) / y     Average Probability Drop, lower is better, [0, 1]
    IR    mean of  1[o > y]              Increase Rate, higher is better, [0, 1]
    DR    mean of  1[o < y]              Drop Rate, lower is better, [0, 1]

y is the confidence on the unchanged image, o the confidence on the masked one. The functions return one value per image
(and threshold); curves, measures and reports take the means. They accept NumPy arrays and torch tensors and import
neither library, so that a report can be written without torch.

Shapes: y and o of shapes that broadcast, such as (N, 1) and (N, T).
Source: Lee and Han (Libra-CAM), IJCAI 2022; average gain: Zhang et al. (Opti-CAM), 2024, arXiv:2301.07002.
Departs from source: y is clamped to at least 1e-12 to avoid 0 / 0.
"""

from typing import Any, TypeVar

Values = TypeVar("Values", bound=Any)

SMALLEST = 1e-12


def increase(y: Values, o: Values) -> Values:
    """Return max(o - y, 0) / y, whose mean is the API."""
    gain: Values = (o - y).clip(min=0) / y.clip(min=SMALLEST)
    return gain


def drop(y: Values, o: Values) -> Values:
    """Return max(y - o, 0) / y, whose mean is the APD."""
    loss: Values = (y - o).clip(min=0) / y.clip(min=SMALLEST)
    return loss


def gain(y: Values, o: Values) -> Values:
    """Return max(o - y, 0) / (1 - y), the share of the possible gain of a probability: the Average Gain."""
    share: Values = (o - y).clip(min=0) / (-y + 1).clip(min=SMALLEST)
    return share


def rises(y: Values, o: Values, tolerance: float = 0.0) -> Values:
    """Return whether o > y by more than a tolerance; the share of True is the IR."""
    higher: Values = o > y + tolerance
    return higher


def falls(y: Values, o: Values, tolerance: float = 0.0) -> Values:
    """Return whether o < y by more than a tolerance; the share of True is the DR."""
    lower: Values = o < y - tolerance
    return lower
