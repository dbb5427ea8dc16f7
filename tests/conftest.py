"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights and photographs beside the repository."""
    if not (REAL_DATA / "weights").is_dir():
        pytest.skip("the real weights and photographs are not beside the repository (../shared/data)")
    return REAL_DATA
