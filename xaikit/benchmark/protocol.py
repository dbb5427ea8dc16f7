"""What a suite measures of every map: the keep curves and the measures, each with its identity and its passes.

    "curves"          levels, fill                       soft and binary; only if a measure reads them
    "measure.NAME"    measure, parameters, code

A row has its values with their identities in the column `protocol`. What a row lacks is computed alone.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from xaikit.benchmark.rows import CURVES, MEASURE, Values
from xaikit.benchmark.store import Found
from xaikit.benchmark.suite import Suite
from xaikit.foundation.code import code
from xaikit.foundation.identity import fingerprint
from xaikit.images.fills import Fill
from xaikit.measures.base import Measure
from xaikit.measures.removal.keep_curve_measures import KeptConfidence
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class Protocol:
    """The values of every row.

    Args:
        measures: the measures by their name in rows.
        levels: number of levels of the keep curves.
        fill: what removed pixels become.
    """

    measures: Mapping[str, Measure]
    levels: int
    fill: Fill

    @classmethod
    def of(cls, suite: Suite) -> "Protocol":
        """Return the protocol of a suite."""
        return cls({measure.title: measure.build() for measure in suite.measures}, suite.levels, suite.fill)

    @cached_property
    def identities(self) -> dict[str, str]:
        """The identity of each value, by column."""
        values = {
            f"{MEASURE}{title}": fingerprint([measure.name, measure.params, code(type(measure))])
            for title, measure in self.measures.items()
        }
        if any(isinstance(measure, KeptConfidence) for measure in self.measures.values()):
            values[CURVES] = fingerprint([self.levels, self.fill])
        return values

    @cached_property
    def values(self) -> Values:
        """The values with their identities."""
        return frozenset(self.identities.items())

    def lacking(self, rows: Iterable[Found]) -> Values:
        """Return the values that the row of a unit with most of them lacks."""
        return min((self.values - row.values for row in rows if row.status == "ok"), key=len, default=self.values)

    def measures_of(self, values: Collection[str]) -> dict[str, Measure]:
        """Return the measures among some columns."""
        return {title: measure for title, measure in self.measures.items() if f"{MEASURE}{title}" in values}

    def curves_of(self, values: Collection[str]) -> tuple[int, Fill] | None:
        """Return levels and fill of the keep curves if they are among some columns."""
        return (self.levels, self.fill) if CURVES in values else None

    def cost(self, values: Collection[str], explaining: Cost) -> Cost:
        """Return the passes of one image and map for some columns, at most, without explaining it.

        Args:
            values: the columns.
            explaining: passes of the method, which some measures use again.
        """
        measures = self.measures_of(values).values()
        costs = [measure.cost() for measure in measures if not isinstance(measure, KeptConfidence)]
        again = sum(measure.explanations() for measure in measures)
        curves = 2 * self.levels - 1 if CURVES in values else 0
        return Cost(
            again * explaining.forwards + curves + sum(cost.forwards for cost in costs),
            again * explaining.backwards + sum(cost.backwards for cost in costs),
        )

    def image_cost(self, values: Collection[str]) -> Cost:
        """Return the passes of one image for some columns that all its maps share."""
        costs = [measure.image_cost() for measure in self.measures_of(values).values()]
        shared = 2 if CURVES in values else 1
        return Cost(shared + sum(cost.forwards for cost in costs), sum(cost.backwards for cost in costs))
