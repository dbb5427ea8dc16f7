"""Computed once for all methods: the regions of each picture."""

from collections.abc import Iterator

import numpy as np
import pytest

from xaikit.methods.perturbation import xrai
from xaikit.methods.perturbation.xrai import Pixels, regions_of


@pytest.fixture(scope="session")
def kept_regions() -> Iterator[None]:
    """Keep XRAI's regions: they depend on the picture alone, and finding them takes most of its time."""
    kept: dict[tuple[bytes, tuple[int, ...]], list[Pixels]] = {}

    def looked_up(picture: np.ndarray) -> list[Pixels]:
        key = picture.tobytes(), picture.shape
        if key not in kept:
            kept[key] = regions_of(picture)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xrai, "regions_of", looked_up)
        yield
