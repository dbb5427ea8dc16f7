"""The API for plugins: the registries, and the base classes of new methods and measures.

    from xaikit.extend import METHODS, Cost, LayerMethod, Values

All other modules of `xaikit` are internal and may change without notice; the public names of the package may not.
"""

from __future__ import annotations

from xaikit.foundation.flags import FLAGS, Flag, described
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.methods.base import METHODS, Family, InputMethod, LayerMethod, Method, Need, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

__all__ = [
    "FLAGS",
    "MEASURES",
    "METHODS",
    "Batch",
    "Cost",
    "Family",
    "Flag",
    "InputMethod",
    "LayerMethod",
    "Measure",
    "Method",
    "Need",
    "Subject",
    "Values",
    "described",
]
