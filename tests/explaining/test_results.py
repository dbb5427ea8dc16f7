"""The folder of results: names that never meet, files that are whole, interrupts that wait."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xaikit.explaining.results import ResultsFolder, printable, uninterrupted, unique_names
from xaikit.foundation.errors import BadInput

PICTURE = np.zeros((4, 4, 3), np.uint8)


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


def test_a_name_that_is_no_utf8_can_be_printed() -> None:
    assert printable(Path("caf\udce9.png")) == "caf?.png"


def test_values_come_back_as_they_went_in(tmp_path: Path) -> None:
    values: dict[str, np.ndarray[Any, Any]] = {
        "grad-cam": np.arange(6, dtype=np.float32).reshape(2, 3),
        "captum/saliency": np.ones((3, 4, 4)),
    }
    with ResultsFolder.open(tmp_path / "out") as folder:
        places = folder.write("cat", PICTURE, dict.fromkeys(values, PICTURE), values)
    folder.conclude({"seed": 0}, [{"completeness": float("nan")}])
    with np.load(tmp_path / "out" / "attributions.npz") as saved:
        for method, expected in values.items():
            np.testing.assert_array_equal(saved[places[method]["values"]], expected)
            assert (tmp_path / "out" / places[method]["overlay"]).is_file()
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results == {"run": {"seed": 0}, "records": [{"completeness": None}]}


def test_a_failed_run_keeps_the_values_of_the_one_before(tmp_path: Path) -> None:
    with ResultsFolder.open(tmp_path) as folder:
        folder.write("cat", PICTURE, {"m": PICTURE}, {"m": np.ones((2, 2))})
    before = (tmp_path / "attributions.npz").read_bytes()
    with pytest.raises(ZeroDivisionError), ResultsFolder.open(tmp_path):
        raise ZeroDivisionError
    assert (tmp_path / "attributions.npz").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "panels").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="panels"), ResultsFolder.open(tmp_path):
        pass


def test_an_interrupt_waits_for_the_block() -> None:
    steps = []

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append("inside")
        steps.append("after")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
