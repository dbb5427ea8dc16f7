"""Agreement of a method with those of other packages, from the table that the tests run (tests/backends/table.py)."""

from __future__ import annotations

from docs.generator.entries import escaped, table
from tests.backends.table import PAIRS, WITHOUT_PEER
from tests.backends.table_zennit import ZENNIT


def agreement(method: str) -> list[str]:
    """Return a table with one row a counterpart and outcome, or a sentence for a method without one."""
    if method in WITHOUT_PEER:
        return [f"{WITHOUT_PEER[method].capitalize()}; the tests derive it a second time."]
    outcomes: dict[tuple[str, str, float], set[str]] = {}
    for pair in (*PAIRS, *ZENNIT):
        if pair.ours == method:
            networks = {place.partition(":")[0] for place in pair.places}
            outcomes.setdefault((pair.theirs, pair.differs, pair.tolerance), set()).update(networks)
    rows = [
        [f"`{theirs}`", _result(differs, tolerance), ", ".join(sorted(networks))]
        for (theirs, differs, tolerance), networks in outcomes.items()
    ]
    return table(("counterpart", "result", "on"), "lll", rows) if rows else []


def _result(differs: str, tolerance: float) -> str:
    return escaped(f"differs: {differs}" if differs else f"equal to {tolerance:g} of the map's range")
