"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Run shap's loops uncompiled: compiling takes 5 s a process and saves none; test_gpu_script compiles them."""
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights and photographs beside the repository."""
    if not (REAL_DATA / "weights").is_dir():
        pytest.skip("the real weights and photographs are not beside the repository (../shared/data)")
    return REAL_DATA
