"""The folder of results: files that are whole, kills that lose nothing finished, runs that never mix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xaikit.explaining.names import result_names
from xaikit.explaining.records import Record, Records, read_results, write_results
from xaikit.explaining.results import ResultsFolder
from xaikit.foundation.errors import BadInput

Array = np.ndarray[Any, Any]
PICTURE = np.zeros((4, 4, 3), np.uint8)
RUN = {"request": "a", "date": "1"}
OTHER = {"request": "b", "date": "2"}


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing after it is done."""


def add(folder: ResultsFolder, place: int, name: str, value: float = 0.0, *methods: str) -> list[Record]:
    methods = methods or ("m",)
    records = [{"method": method, "sha256": name, "score": value} for method in methods]
    values = {method: np.full((2, 2), value) for method in methods}
    return folder.write(place, name, (PICTURE, dict.fromkeys(methods, PICTURE)), values, records)


def finished(path: Path, run: dict[str, Any], *images: tuple[str, float]) -> None:
    with ResultsFolder.open(path, run) as folder:
        records = [one for place, (name, value) in enumerate(images) for one in add(folder, place, name, value)]
        folder.conclude(run, Records(records))


def killed(path: Path, run: dict[str, Any], *images: tuple[str, float], begin: int = 0) -> None:
    with suppress(Killed), ResultsFolder.open(path, run) as folder:
        for place, (name, value) in enumerate(images, begin):
            add(folder, place, name, value)
        raise Killed


def contents(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The run and the value by key; the records must name exactly these, and their pictures must exist."""
    results = json.loads((path / "results.json").read_text(encoding="utf-8"))
    with np.load(path / "attributions.npz") as saved:
        values = {key: float(saved[key].max()) for key in saved.files}
    assert {one["outputs"]["values"]: one["score"] for one in results["records"]} == values
    for record in results["records"]:
        assert all((path / record["outputs"][kind]).is_file() for kind in ("panel", "overlay"))
    return results["run"], values


def panels(path: Path) -> list[str]:
    return sorted(file.stem for file in (path / "panels").iterdir())


def test_values_come_back_as_they_went_in(tmp_path: Path) -> None:
    values: dict[str, Array] = {
        "grad-cam": np.arange(6, dtype=np.float32).reshape(2, 3),
        "captum/saliency": np.ones((3, 4, 4)),
    }
    with ResultsFolder.open(tmp_path / "out", RUN) as folder:
        records = [{"method": method, "completeness": float("nan")} for method in values]
        written = folder.write(0, "cat", (PICTURE, dict.fromkeys(values, PICTURE)), values, records)
        folder.conclude(RUN, Records(written))
    with np.load(tmp_path / "out" / "attributions.npz") as saved:
        for record in written:
            np.testing.assert_array_equal(saved[record["outputs"]["values"]], values[record["method"]])
            assert (tmp_path / "out" / record["outputs"]["overlay"]).is_file()
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["run"] == RUN
    assert [one["completeness"] for one in results["records"]] == [None, None]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "attributions.npz",
        "overlays",
        "panels",
        "results.json",
    ]


def test_values_are_written_in_the_order_of_the_records(tmp_path: Path) -> None:
    with ResultsFolder.open(tmp_path, RUN) as folder:
        first, second = add(folder, 0, "x"), add(folder, 1, "y")
        folder.conclude(RUN, Records([*second, *first]))
    with np.load(tmp_path / "attributions.npz") as saved:
        assert saved.files == ["y/m", "x/m"]


def test_a_run_that_fails_before_its_first_image_changes_nothing(tmp_path: Path) -> None:
    finished(tmp_path, RUN, ("cat", 1.0))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ZeroDivisionError), ResultsFolder.open(tmp_path, OTHER):
        raise ZeroDivisionError
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_run_is_completed_by_the_next(tmp_path: Path, count: int) -> None:
    killed(tmp_path, RUN, *((f"image{number}", float(number)) for number in range(count)))
    assert not (tmp_path / "results.json").exists()
    with ResultsFolder.open(tmp_path, RUN) as folder:
        run, values = contents(tmp_path)
        assert sorted(folder.kept) == [f"image{number}" for number in range(count)]
        assert [one["score"] for one in folder.known("image0")] == [0.0]
    assert run["interrupted"] is True
    assert run["images"] == count
    assert values == {f"image{number}/m": number for number in range(count)}
    assert not (tmp_path / "unfinished").exists()


def test_a_run_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    for number in range(4):
        killed(tmp_path, RUN | {"date": str(number)}, (f"image{number}", float(number)), begin=number)
    with ResultsFolder.open(tmp_path, RUN | {"date": "9"}) as folder:
        known = [one for number in range(4) for one in folder.known(f"image{number}")]
        folder.conclude(RUN, Records([*known, *add(folder, 4, "image4", 4.0)]))
    assert contents(tmp_path)[1] == {f"image{number}/m": number for number in range(5)}


def test_another_request_moves_what_it_finds(tmp_path: Path) -> None:
    lines: list[str] = []
    finished(tmp_path, RUN, ("cat", 1.0), ("dog", 2.0))
    with ResultsFolder.open(tmp_path, OTHER, lines.append) as folder:
        assert not folder.kept
        folder.conclude(OTHER, Records(add(folder, 0, "cat", 5.0)))
    assert contents(tmp_path) == (OTHER, {"cat/m": 5.0})
    assert panels(tmp_path) == ["cat"]
    assert contents(tmp_path / "earlier" / "1") == (RUN, {"cat/m": 1.0, "dog/m": 2.0})
    place = tmp_path / "earlier" / "1"
    assert lines == [f"the results of an earlier run, which was asked something else or is damaged, are now in {place}"]
    finished(tmp_path, RUN, ("fox", 7.0))
    assert contents(tmp_path / "earlier" / "2") == (OTHER, {"cat/m": 5.0})
    assert panels(tmp_path) == ["fox"]


def test_a_killed_run_of_another_request_is_completed_and_moved(tmp_path: Path) -> None:
    killed(tmp_path, RUN, ("cat", 1.0), ("dog", 2.0))
    finished(tmp_path, OTHER, ("cat", 5.0))
    run, values = contents(tmp_path / "earlier" / "1")
    assert (run["request"], values) == ("a", {"cat/m": 1.0, "dog/m": 2.0})
    assert contents(tmp_path)[1] == {"cat/m": 5.0}
    assert panels(tmp_path) == ["cat"]


def test_a_move_that_was_killed_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path, RUN, ("cat", 1.0))
    rename, moved = Path.rename, []

    def stops(self: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise Killed
        moved.append(self.name)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stops)
        killed(tmp_path, OTHER, ("fox", 5.0))
    assert moved == ["overlays", "panels"]
    finished(tmp_path, OTHER, ("fox", 5.0))
    assert contents(tmp_path / "earlier" / "1") == (RUN, {"cat/m": 1.0})
    assert contents(tmp_path)[1] == {"fox/m": 5.0}


def stop_before_results(folder: ResultsFolder, patch: pytest.MonkeyPatch) -> None:
    def stops(path: Path, run: Any, records: Records) -> None:
        raise Killed

    patch.setattr("xaikit.explaining.results.write_results", stops)


def test_a_kill_between_values_and_records_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(Killed), ResultsFolder.open(tmp_path, RUN) as folder, monkeypatch.context() as patch:
        records = add(folder, 0, "cat", 1.0)
        stop_before_results(folder, patch)
        folder.conclude(RUN, Records(records))
    assert not (tmp_path / "results.json").exists()
    with ResultsFolder.open(tmp_path, OTHER):
        assert contents(tmp_path)[1] == {"cat/m": 1.0}


def test_a_kill_after_the_records_changes_them_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(Killed), ResultsFolder.open(tmp_path, RUN) as folder, monkeypatch.context() as patch:
        records = add(folder, 0, "cat", 1.0)

        def stops(folder: ResultsFolder) -> None:
            raise Killed

        patch.setattr(ResultsFolder, "_remove_unfinished", stops)
        folder.conclude(RUN | {"interrupted": False}, Records(records))
    with ResultsFolder.open(tmp_path, RUN):
        assert contents(tmp_path) == (RUN | {"interrupted": False}, {"cat/m": 1.0})
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no archive", "missing"])
def test_damaged_values_are_not_continued(tmp_path: Path, damage: str) -> None:
    finished(tmp_path, RUN, ("cat", 1.0), ("dog", 2.0))
    file = tmp_path / "attributions.npz"
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        place = content.index(np.full((2, 2), 2.0).tobytes())
        content[place + 3] ^= 4
        file.write_bytes(content)
    else:
        file.write_bytes(content[:-30] if damage == "truncated" else b"no archive")
    with ResultsFolder.open(tmp_path, RUN) as folder:
        assert not folder.kept
        folder.conclude(RUN, Records(add(folder, 0, "cat", 1.0)))
    assert contents(tmp_path)[1] == {"cat/m": 1.0}
    assert (tmp_path / "earlier" / "1" / "results.json").is_file()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"run": 3, "records": []}',
        '{"run": {"request": "a"}, "records": [3]}',
        '{"run": {"request": "a"}, "records": [{"outputs": 4}]}',
        '{"run": {"request": "a"}, "records": [{"outputs": {"panel": 1, "overlay": 2, "values": 3}}]}',
    ],
)
def test_results_of_another_form_are_moved_and_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    finished(tmp_path, RUN, ("cat", 1.0))
    assert contents(tmp_path)[1] == {"cat/m": 1.0}
    assert (tmp_path / "earlier" / "1" / "results.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "name",
    ["results.json", "attributions.npz", "panels/cat.png", pytest.param("overlays/cat.m.png", marks=pytest.mark.slow)],
)
def test_no_flipped_bit_is_believed_and_every_one_heals(tmp_path: Path, name: str) -> None:
    finished(tmp_path, RUN, ("cat", 1.0), ("dog", 2.0))
    file, stream = tmp_path / name, np.random.default_rng(0)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place in stream.choice(len(whole[file]), min(40, len(whole[file])), replace=False).tolist():
        for path, content in whole.items():
            path.write_bytes(content)
        file.write_bytes(whole[file][:place] + bytes([whole[file][place] ^ 1 << place % 8]) + whole[file][place + 1 :])
        with ResultsFolder.open(tmp_path, RUN) as folder:
            known = {image: folder.known(image) for image in ("cat", "dog")}
            records = [
                record
                for number, (image, value) in enumerate((("cat", 1.0), ("dog", 2.0)))
                for record in known[image] or add(folder, number, image, value)
            ]
            folder.conclude(RUN, Records(records))
        assert contents(tmp_path)[1] == {"cat/m": 1.0, "dog/m": 2.0}
        assert {record["score"] for record in records} == {1.0, 2.0}
        assert file.read_bytes() == whole[file]


def test_no_flipped_bit_in_an_unfinished_run_ends_the_next_one(tmp_path: Path) -> None:
    killed(tmp_path / "whole", RUN, ("cat", 1.0), ("dog", 2.0))
    content = (tmp_path / "whole" / "unfinished" / "0000" / "00000000.npz").read_bytes()
    for place in np.random.default_rng(0).choice(len(content), 40, replace=False).tolist():
        path = tmp_path / str(place)
        shutil.copytree(tmp_path / "whole", path)
        damaged = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        (path / "unfinished" / "0000" / "00000000.npz").write_bytes(damaged)
        with ResultsFolder.open(path, RUN) as folder:
            assert set(folder.kept) <= {"cat", "dog"}
        assert contents(path)[1].items() <= {"cat/m": 1.0, "dog/m": 2.0}.items()


def test_half_written_pictures_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    killed(tmp_path, RUN, ("cat", 1.0))
    for folder in ("panels", "overlays", "."):
        (tmp_path / folder / ".0123456789ab.tmp.png").write_bytes(b"half")
    finished(tmp_path, RUN, ("cat", 1.0))
    assert not list(tmp_path.rglob(".*"))


def test_a_damaged_part_costs_its_image(tmp_path: Path) -> None:
    killed(tmp_path, RUN, ("cat", 1.0), ("dog", 2.0))
    part = sorted((tmp_path / "unfinished").rglob("*.npz"))[0]
    part.write_bytes(part.read_bytes()[:-40])
    with ResultsFolder.open(tmp_path, RUN) as folder:
        assert sorted(folder.kept) == ["dog"]


def test_an_image_whose_picture_is_gone_is_explained_again(tmp_path: Path) -> None:
    finished(tmp_path, RUN, ("cat", 1.0), ("dog", 2.0))
    (tmp_path / "overlays" / "cat.m.png").unlink()
    with ResultsFolder.open(tmp_path, RUN) as folder:
        assert not folder.known("cat")
        assert folder.known("dog")
        assert not folder.known("fox")


def test_two_runs_in_one_folder_at_once(tmp_path: Path) -> None:
    with (
        ResultsFolder.open(tmp_path, RUN),
        pytest.raises(BadInput, match="got a whole run by process"),
        ResultsFolder.open(tmp_path, OTHER),
    ):
        pass
    with ResultsFolder.open(tmp_path, OTHER):
        pass


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "earlier").write_text("", encoding="utf-8")
    (tmp_path / "panels").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="earlier"):
        finished(tmp_path, RUN, ("cat", 1.0))


def test_a_foreign_file_in_place_of_the_panels_is_moved(tmp_path: Path) -> None:
    (tmp_path / "panels").write_text("mine", encoding="utf-8")
    finished(tmp_path, RUN, ("cat", 1.0))
    assert (tmp_path / "earlier" / "1" / "panels").read_text(encoding="utf-8") == "mine"


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    import tracemalloc

    value: Sequence[float] = [0.0]
    with ResultsFolder.open(tmp_path, RUN) as folder:
        records, large = Records(), np.zeros((300, 300))
        tracemalloc.start()
        for place in range(30):
            drawn = PICTURE, {"m": PICTURE}
            asked = [{"method": "m", "score": value[0]}]
            records += folder.write(place, f"{place}", drawn, {"m": large + place}, asked)
        folder.conclude(RUN, records)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6 * large.nbytes


def test_very_many_images_have_a_folder_for_each_thousand() -> None:
    paths = [Path(f"photos/{place}.png") for place in range(10_001)]
    names = result_names(paths)
    assert result_names(paths[:-1]) == [path.stem for path in paths[:-1]]
    assert names[999:1001] == ["0000/999", "0001/1000"]
    assert len(set(names)) == 10_001


def test_names_with_folders_and_values_without_pictures_are_continued(tmp_path: Path) -> None:
    with suppress(Killed), ResultsFolder.open(tmp_path, RUN) as folder:
        add(folder, 0, "0000/cat", 1.0, "captum/saliency")
        folder.write(1000, "0001/dog", None, {"m": PICTURE}, [{"method": "m", "score": 2.0}])
        raise Killed
    with ResultsFolder.open(tmp_path, RUN) as folder:
        (cat,), (dog,) = folder.known("0000/cat"), folder.known("0001/dog")
    assert cat["outputs"]["panel"] == "panels/0000/cat.png"
    assert dog == {"method": "m", "score": 2.0, "outputs": {"values": "0001/dog/m"}}
    with np.load(tmp_path / "attributions.npz") as saved:
        assert saved.files == ["0000/cat/captum/saliency", "0001/dog/m"]


def test_records_are_those_of_the_file(tmp_path: Path) -> None:
    records = Records([{"a": (1, 2)}, {"b": float("nan")}, {"c": "\n\u2028ü"}])
    write_results(tmp_path / "results.json", RUN, records)
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["records"] == list(records)
    found = read_results(tmp_path / "results.json")
    assert found is not None
    assert (found[0], list(found[1])) == (RUN, [{"a": [1, 2]}, {"b": None}, {"c": "\n\u2028ü"}])
    assert list(records[1:]) == [records[1], records[-1]]
    write_results(tmp_path / "results.json", RUN, Records())
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["records"] == []
