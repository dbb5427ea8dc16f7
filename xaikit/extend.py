"""What a plugin imports: the registries, and the classes that a new method or measure derives from.

    from xaikit.extend import METHODS, Cost, LayerMethod, Values

Anything else under `xaikit` that is not a public name of the package may change without notice.
"""

from __future__ import annotations

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.methods.base import METHODS, Family, InputMethod, LayerMethod, Method, Need, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

__all__ = [
    "MEASURES",
    "METHODS",
    "Batch",
    "Cost",
    "Family",
    "InputMethod",
    "LayerMethod",
    "Measure",
    "Method",
    "Need",
    "Subject",
    "Values",
]
