"""Damaged files heal: whatever bit is flipped, it is noticed, set aside and computed again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import SafetensorError

from tests.report.rows import rows as drawn_rows
from xaikit.benchmark.rows import Damaged, checked, digest, parquet
from xaikit.benchmark.run import run
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput
from xaikit.foundation.tensor_files import read_tensors, write_tensors
from xaikit.methods.activation.reference_library import Library
from xaikit.report.numbers.read import read_benchmark
from xaikit.run.attribution import Attribution

FEW = {
    "models": ["texture-cnn"],
    "data": {"kind": "synthetic", "count": 4},
    "methods": ["saliency"],
    "controls": [],
    "measures": ["api"],
    "levels": 2,
    "batch": 1,
    "threads": 1,
}


def flipped(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield the content with one bit flipped, at `count` places."""
    for bit in random.Random(seed).sample(range(8 * len(content)), count):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def whole_rows() -> list[dict]:
    return [row | {"setting": "s", "status": "ok", "error": None, "schema": 1} for row in drawn_rows(3)]


def test_every_flipped_bit_of_a_row_file_is_noticed(tmp_path):
    content = parquet(pa.Table.from_pylist(whole_rows()))
    file = tmp_path / f"chunk-{digest(content)}.parquet"
    file.write_bytes(content)
    assert checked(file).to_pylist() == whole_rows()
    for damaged in flipped(content, 200):
        file.write_bytes(damaged)
        with pytest.raises(Damaged, match="run the benchmark again"):
            checked(file)
    for length in (0, 1, 100, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(Damaged):
            checked(file)


def test_pages_are_checked_whatever_the_name(tmp_path):
    stream = parquet(pa.Table.from_pylist(whole_rows()))
    column = pq.ParquetFile(pa.BufferReader(stream)).metadata.row_group(0).column(list(whole_rows()[0]).index("y"))
    assert column.path_in_schema == "y"
    damaged = bytearray(stream)
    damaged[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    file = tmp_path / "renamed.parquet"
    file.write_bytes(bytes(damaged))
    with pytest.raises(Damaged):
        checked(file)


@pytest.mark.slow
def test_damaged_rows_are_set_aside_and_computed_again(tmp_path):
    run(Suite.of(**FEW), tmp_path)
    before = {row["unit_id"]: row["o_soft"] for row in read_benchmark(tmp_path).rows}
    files = Store(tmp_path).files()
    for place, file in enumerate(files[:2]):
        file.write_bytes(next(flipped(file.read_bytes(), 1, seed=place)))
    with pytest.raises(BadInput, match=r"checksum differs\); run the benchmark again"):
        read_benchmark(tmp_path)
    notices: list[str] = []
    outcome = run(Suite.of(**FEW), tmp_path, notice=notices.append)
    assert (outcome.before, outcome.computed) == (2, 2)
    assert notices[:2] == [
        f"{file.name}: damaged; it is set aside as {file.name}.damaged, and its units are computed again"
        for file in files[:2]
    ]
    assert {row["unit_id"]: row["o_soft"] for row in read_benchmark(tmp_path).rows} == before
    notices.clear()
    assert run(Suite.of(**FEW), tmp_path, notice=notices.append).computed == 0
    assert not any("damaged" in line for line in notices)


@pytest.mark.parametrize("text", ["{", "[]", '{"threads": 1000000}', '{"settings": []}', '{"seed": "0"}'])
def test_a_damaged_manifest_is_set_aside(tmp_path, text):
    run(Suite.of(**FEW), tmp_path)
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"manifest\.json"):
        read_benchmark(tmp_path)
    notices: list[str] = []
    assert run(Suite.of(**FEW), tmp_path, notice=notices.append).computed == 0
    assert notices[0].startswith("manifest.json: damaged; it is set aside")
    assert len(read_benchmark(tmp_path).rows) == 4


def test_damaged_maps_are_computed_again(tmp_path):
    suite = FEW | {"maps": "keep"}
    run(Suite.of(**suite), tmp_path)
    before = {row["image_id"]: row["y"] for row in read_benchmark(tmp_path).rows}
    maps = sorted((tmp_path / "maps").rglob("*.safetensors"))
    maps[0].write_bytes(next(flipped(maps[0].read_bytes(), 1)))
    notices: list[str] = []
    run(Suite.of(**(suite | {"measures": ["api", "apd"]})), tmp_path, notice=notices.append)
    assert [line for line in notices if "damaged" in line] == [
        f"{maps[0].name}: damaged; it is set aside as {maps[0].name}.damaged, and its map is computed again"
    ]
    assert {row["image_id"]: row["y"] for row in read_benchmark(tmp_path).rows} == pytest.approx(before)
    assert maps[0].is_file()
    Attribution.load(maps[0])


@pytest.mark.slow
def test_a_damaged_library_is_built_again(tmp_path):
    data = {"kind": "synthetic", "count": 12, "seed": 5}
    suite = FEW | {"methods": ["libra-cam"], "library": {"data": data, "references": 2}}
    run(Suite.of(**suite), tmp_path)
    (library,) = (tmp_path / "libraries").iterdir()
    whole = library.read_bytes()
    library.write_bytes(next(flipped(whole, 1)))
    notices: list[str] = []
    run(Suite.of(**(suite | {"levels": 3})), tmp_path, notice=notices.append)
    assert f"{library.name}: damaged; it is set aside as {library.name}.damaged, and the library is built again" in (
        notices
    )
    library.rename(tmp_path / "again.safetensors")
    library.write_bytes(whole)
    built, first = Library.load(tmp_path / "again.safetensors"), Library.load(library)
    assert torch.equal(built.activations, first.activations)
    assert built.fingerprint == first.fingerprint


def test_every_flipped_bit_of_a_tensor_file_is_noticed_or_changes_nothing(tmp_path):
    file, about = tmp_path / "file.safetensors", {"name": "a test", "numbers": [1, 2]}
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])}
    write_tensors(file, tensors, "test", about)
    content, same = file.read_bytes(), 0
    for damaged in flipped(content, 400):
        file.write_bytes(damaged)
        try:
            read_about, found = read_tensors(file, "test")
        except (BadInput, SafetensorError, KeyError, ValueError):
            continue
        same += 1
        assert read_about == about
        assert found.keys() == tensors.keys()
        assert all(
            found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in tensors.items()
        )
    assert same < 40


@pytest.mark.parametrize("kind", [Attribution, Library])
def test_damaged_tensor_files_are_one_line(tmp_path, kind):
    file = tmp_path / "file.safetensors"
    write_tensors(file, {"a": torch.arange(600.0)}, "xaikit" if kind is Attribution else "xaikit-library", {})
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(BadInput, match="got a damaged one"):
        kind.load(file)


def rows_file(folder: Path, rows: list[dict]) -> Path:
    file = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"y": "high"}, "y: expected double, got string"),
        ({"unit_id": 3}, "unit_id: expected string, got int64"),
        ({"flags": "constant"}, "flags: expected list<.*>, got string"),
        ({"o_soft": [1, 2, 3]}, "o_soft: expected list<.*>, got list"),
        ({"measure.api": "x"}, "measure.api: expected double, got string"),
        ({"levels": 10**6}, "levels: expected 1000000"),
        ({"o_soft": None}, "o_soft: expected a value"),
        ({"method": None}, "method: expected a value"),
        ({"status": "fine"}, "status: expected ok or error"),
        ({"schema": 2}, "schema: expected 1, got 2"),
    ],
)
def test_rows_of_wrong_types_are_one_line(tmp_path, changed, reason):
    file = rows_file(tmp_path, [row | changed for row in whole_rows()])
    with pytest.raises(Damaged, match=reason):
        checked(file)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"threads": 10**6}, "threads: input should be less than or equal to 1024, got 1000000"),
        ({"threads": "2"}, "threads: input should be a valid integer"),
        ({"schema": 2}, "schema: input should be 1"),
        ({"settings": {"s": {"seed": [1]}}}, "settings"),
        ({"measures": {"api": {"direction": "up"}}}, "direction"),
        ({"environment": {"torch": 2}}, "environment.torch: input should be a valid string"),
        ({"images": {"d": {"m": {"a.png": 3}}}}, "images.d.m"),
        ({"titel": "x"}, "unknown key 'titel'; did you mean title"),
        ({"seed": -1}, "seed: "),
    ],
)
def test_manifests_of_wrong_types_are_one_line(tmp_path, changed, reason):
    (tmp_path / "rows").mkdir()
    rows_file(tmp_path / "rows", whole_rows())
    assert len(read_benchmark(tmp_path).rows) == 12
    (tmp_path / "manifest.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(BadInput, match=reason) as caught:
        read_benchmark(tmp_path)
    assert "\n" not in str(caught.value)
