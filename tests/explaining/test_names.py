"""Names of result files: never equal, never too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from xaikit.explaining.names import unique_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.png", "a/y.png"], ["x", "y"]),
        (["a/x.png", "b/x.png", "b/y.png"], ["a-x", "b-x", "y"]),
        (["a/x.png", "a/x.jpg"], ["x.png", "x.jpg"]),
        (["p/a/x.png", "q/a/x.png"], ["p-a-x.png", "q-a-x.png"]),
        (["a/X.png", "b/x.png"], ["a-X", "b-x"]),
        (["x.png", "x.png", "x.png"], ["x.png", "x.png-2", "x.png-3"]),
        (["a/x.png", "b/x.png", "c/a-x.png"], ["x.png", "b-x", "a-x.png"]),
    ],
)
def test_names(paths: list[str], names: list[str]) -> None:
    assert unique_names([Path(path) for path in paths]) == names


def test_names_fit_a_file_system() -> None:
    names = unique_names([Path(f"{'東' * 80}{number}.png") for number in range(3)])
    assert len(set(names)) == 3
    assert all(len(name.encode()) <= 150 for name in names)
