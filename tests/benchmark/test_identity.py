"""Nothing stale is taken for done, and nothing unequal is pooled: whatever could change a number makes another row."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.report.rows import rows as drawn_rows
from xaikit.api import load
from xaikit.benchmark import identity
from xaikit.benchmark.run import Outcome, run
from xaikit.benchmark.suite import Suite
from xaikit.foundation.code import code, network_code
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import package_data
from xaikit.foundation.registry import load_plugin
from xaikit.images.synthetic import draw
from xaikit.methods.base import METHODS
from xaikit.report.numbers.read import Benchmark, listed_pictures, read_benchmark
from xaikit.runs.pictures import write_pictures

FEW = {"models": ["texture-cnn"], "methods": ["saliency"], "controls": [], "measures": ["api"], "levels": 2}


def pictures(folder: Path, seed: int, suffix: str = "bmp", count: int = 2) -> Path:
    """Write pictures whose names and sizes in bytes do not depend on the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, pixels in enumerate(draw(count, seed).pixels):
        array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(array).save(folder / f"{place}.{suffix}")
    return folder


def measured(out: Path, folder: Path | None = None, **changed) -> Outcome:
    data = {"kind": "synthetic", "count": 2} if folder is None else {"kind": "images", "path": folder, "name": "mine"}
    return run(Suite.of(**(FEW | {"data": data, "threads": 1} | changed)), out)


def numbers(out: Path) -> dict[str, float]:
    rows = read_benchmark(out).rows
    assert len({(row["model"], row["method"], row["image_id"]) for row in rows}) == len(rows)
    return {f"{row['method']} {row['image_id']} {level}": o for row in rows for level, o in enumerate(row["o_soft"])}


def left_out(out: Path) -> list[str]:
    return read_benchmark(out).run.get("left_out", [])


def test_replaced_pictures_are_measured_again(tmp_path):
    folder, times = pictures(tmp_path / "pictures", seed=1), {}
    for file in folder.iterdir():
        times[file] = file.stat()
    assert measured(tmp_path / "out", folder).computed == 2
    assert measured(tmp_path / "out", folder).computed == 0
    before = numbers(tmp_path / "out")
    pictures(folder, seed=2)
    for file, about in times.items():
        assert file.stat().st_size == about.st_size
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert measured(tmp_path / "out", folder).computed == 2
    measured(tmp_path / "fresh", folder)
    assert numbers(tmp_path / "out") == pytest.approx(numbers(tmp_path / "fresh"))
    assert numbers(tmp_path / "out") != pytest.approx(before)
    assert left_out(tmp_path / "out") == ["2 rows of texture-cnn on mine left out: the picture or its label changed"]


def test_the_drawn_pictures_are_those_of_the_rows(tmp_path):
    folder, out, drawn = tmp_path / "pictures", tmp_path / "out", []
    data = {"kind": "images", "path": folder, "name": "mine"}
    for seed in (1, 2, 1):
        measured(out, pictures(folder, seed, count=1))
        write_pictures(Suite.of(**(FEW | {"data": data, "threads": 1})), out, read_benchmark(out), "cpu")
        files = listed_pictures(out)["mine", "texture-cnn"]["0.bmp"]
        drawn.append({name: file.read_bytes() for name, file in files.items()})
    assert drawn[0].keys() == {"input", "saliency"}
    assert all(drawn[0][name] != drawn[1][name] for name in drawn[0])
    assert drawn[0] == drawn[2]


def test_another_folder_with_the_same_names_is_measured_again(tmp_path):
    first, second = (pictures(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2)))
    measured(tmp_path / "out", first)
    assert measured(tmp_path / "out", second).computed == 2
    assert measured(tmp_path / "out", first).computed == 0, "the same content is not measured again"
    moved = shutil.copytree(first, tmp_path / "c")
    assert measured(tmp_path / "out", moved).computed == 0, "where it lies does not matter"


def test_pictures_that_left_the_data_leave_the_report(tmp_path):
    folder = pictures(tmp_path / "pictures", seed=1, count=3)
    measured(tmp_path / "out", folder)
    (folder / "1.bmp").unlink()
    assert measured(tmp_path / "out", folder).computed == 0
    assert {row["image_id"] for row in read_benchmark(tmp_path / "out").rows} == {"0.bmp", "2.bmp"}
    assert left_out(tmp_path / "out") == ["1 row of texture-cnn on mine left out: the data no longer have the picture"]


def test_a_picture_that_changes_during_the_run_is_an_error(tmp_path, monkeypatch):
    from xaikit.benchmark import worker

    folder = pictures(tmp_path / "pictures", seed=1)
    load = worker.load

    def slow(*args, **kwargs):
        pictures(folder, seed=2)
        for file in folder.iterdir():
            os.utime(file, (1, 1))
        return load(*args, **kwargs)

    monkeypatch.setattr(worker, "load", slow)
    outcome = measured(tmp_path / "out", folder)
    assert [reason for *_, reason in outcome.failed] == [
        f"{name}: expected the planned picture, got one that changed meanwhile; run again"
        for name in ("0.bmp", "1.bmp")
    ]
    monkeypatch.undo()
    assert measured(tmp_path / "out", folder).computed == 2


def test_a_corrected_label_is_measured_again(tmp_path):
    folder = pictures(tmp_path / "pictures", seed=1)
    changed = {
        "data": {"kind": "images", "path": folder, "name": "mine", "labels": "labels.csv"},
        "target": "label",
        "maps": "keep",
    }
    for second in (2, 3):
        (folder / "labels.csv").write_text(f"file,class_index\n0.bmp,1\n1.bmp,{second}\n", encoding="utf-8")
        outcome = measured(tmp_path / "out", **changed)
        assert (outcome.before, outcome.computed) == ((0, 2) if second == 2 else (1, 1))
        rows = read_benchmark(tmp_path / "out").rows
        assert [(row["label"], row["target"]) for row in rows] == [(1, 1), (second, second)]
    measured(tmp_path / "fresh", **changed)
    assert numbers(tmp_path / "out") == pytest.approx(numbers(tmp_path / "fresh"))


@pytest.mark.slow
def test_two_targets_are_never_one_number(tmp_path):
    for target in ("top", 3, "dots", "top"):
        assert measured(tmp_path / "out", target=target).units == 2
        found = read_benchmark(tmp_path / "out").rows
        assert {row["target_rule"] for row in found} == {str(target)}
        assert len(found) == 2
    assert left_out(tmp_path / "out") == ["4 rows of texture-cnn on texture in shape left out: the target changed"]


PLUGIN = """
from dataclasses import dataclass
from xaikit.extend import METHODS, Cost, Method, Values
{imports}

@METHODS.register
@dataclass(frozen=True)
class Reds(Method):
    "How red each pixel is."

    name = "{name}"
    family = "gradient"
    source = "a test"
    passes = Cost(0)

    def compute(self, batch):
        return Values({sign} * batch.pixels[:, 0])
"""


@pytest.fixture
def forgotten():
    """Remove what a test registers."""
    METHODS.names()
    entries, modules = dict(METHODS._entries), set(sys.modules)
    yield
    METHODS._entries.clear()
    METHODS._entries.update(entries)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_changed_code_of_a_plugin_is_measured_again(tmp_path, forgotten):
    plugin, computed, found = tmp_path / "reds.py", [], []
    for sign in ("+1", "-1", "-1"):
        plugin.write_text(PLUGIN.format(name="reds", sign=sign, imports=""), encoding="utf-8")
        load_plugin(plugin)
        computed.append(measured(tmp_path / "out", methods=["reds", "saliency"]).computed)
        found.append(numbers(tmp_path / "out"))
    assert computed == [4, 2, 0], "the methods of xaikit itself are not measured again"
    assert found[0] != found[1] == found[2]
    reason = "the method's parameters, code, layer or library changed"
    assert left_out(tmp_path / "out") == [f"2 rows of texture-cnn on texture in shape left out: {reason}"]


IMPORTS = {
    "a function": ("def sign():\n    return {sign}\n", "from sign_of_reds import sign", "sign()"),
    "a constant": ("SIGN = {sign}\n", "from sign_of_reds import SIGN", "SIGN"),
    "a module": ("SIGN = {sign}\n", "import sign_of_reds", "sign_of_reds.SIGN"),
    "everything": ("SIGN = {sign}\n", "from sign_of_reds import *", "SIGN"),
    "late": ("SIGN = {sign}\n", "def late():\n    from sign_of_reds import SIGN\n    return SIGN\n", "late()"),
    "at second hand": ("SIGN = {sign}\n", "from second_hand import *", "SIGN"),
}


@pytest.mark.parametrize("kind", IMPORTS)
@pytest.mark.slow
def test_changed_code_that_a_plugin_imports_or_smooths_is_measured_again(tmp_path, forgotten, monkeypatch, kind):
    monkeypatch.syspath_prepend(tmp_path)
    helper, plugin = tmp_path / "sign_of_reds.py", tmp_path / "reds.py"
    (tmp_path / "second_hand.py").write_text("from sign_of_reds import *\n", encoding="utf-8")
    content, imports, sign_of = IMPORTS[kind]
    plugin.write_text(PLUGIN.format(name="imported-reds", sign=sign_of, imports=imports), encoding="utf-8")
    smooth = {"name": "smooth-grad", "params": {"base": "imported-reds", "samples": 1}}
    for sign, computed in ((1, 4), (-1, 4), (-1, 0)):
        helper.write_text(content.format(sign=sign), encoding="utf-8")
        os.utime(helper, (sign + 2, sign + 2))
        for name in ("sign_of_reds", "second_hand"):
            sys.modules.pop(name, None)
        load_plugin(plugin)
        assert measured(tmp_path / "out", methods=["imported-reds", smooth]).computed == computed


@pytest.mark.parametrize("target", ["dots", "top"])
def test_renamed_classes_are_measured_again(tmp_path, target):
    """The rule of the target and the names in the report depend on them."""
    folder = shutil.copytree(package_data("models/texture-cnn"), tmp_path / "net")
    recipe = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert measured(tmp_path / "out", models=[str(folder)], target=target).computed == 2
    swapped = recipe.replace('"dots"', '"?"').replace('"checkers"', '"dots"').replace('"?"', '"checkers"')
    assert swapped != recipe
    (folder / "recipe.toml").write_text(swapped, encoding="utf-8")
    assert measured(tmp_path / "out", models=[str(folder)], target=target).computed == 2
    rows = read_benchmark(tmp_path / "out").rows
    named = {(row["target_name"], row["target"]) for row in rows}
    assert not named & {("dots", load(folder).labels.index("checkers"))}


@pytest.mark.slow
def test_code_is_named_only_where_the_environment_does_not_tell_it(forgotten):
    class Mine(METHODS.get("saliency")):
        pass

    assert code(METHODS.get("saliency"), METHODS.get("lrp")) == ""
    assert code(Mine) == code(Mine) != ""
    Mine.__module__ = "a module that does not exist"
    assert code(Mine) != ""
    assert network_code(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1))) == ""

    class Doubled(torch.nn.Conv2d):
        pass

    assert network_code(torch.nn.Sequential(Doubled(3, 3, 1))) != ""


@pytest.mark.parametrize("what", ["xaikit", "torch", "threads"])
@pytest.mark.slow
def test_other_versions_and_threads_are_measured_again_and_not_pooled(tmp_path, monkeypatch, what):
    measured(tmp_path / "out")
    if what == "xaikit":
        monkeypatch.setattr("xaikit.foundation.code.__version__", "99")
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert measured(tmp_path / "out", threads=2 if what == "threads" else 1).computed == 2
    assert len({row["environment"] for row in read_benchmark(tmp_path / "out").rows}) == 1
    reason = "versions, device or threads changed"
    assert left_out(tmp_path / "out") == [f"2 rows of texture-cnn on texture in shape left out: {reason}"]


def test_the_environment_names_device_and_threads():
    cpu, cuda = (identity.environment(torch.device(kind)) for kind in ("cpu", "cuda:1"))
    assert cpu.replace(", cpu,", ", cuda,") == cuda
    assert f"torch {torch.__version__}" in cpu
    assert cpu.endswith(f"{torch.get_num_threads()} threads")


def pooled(folder: Path, rows: list[dict]) -> Benchmark:
    (folder / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist([row | {"status": "ok"} for row in rows]), folder / "rows" / "a.parquet")
    return read_benchmark(folder)


def test_times_of_two_devices_are_not_one_number(tmp_path):
    rows = [row | {"setting": row["method"], "hardware": "cpu (a)"} for row in drawn_rows(6)]
    for row in rows:
        if row["image_id"] in ("000.png", "001.png"):
            row |= {"hardware": "cpu (b)", "ms": 99.0}
    found = pooled(tmp_path, rows)
    assert len(found) == len(rows) == len(found.rows)
    assert {row["ms"] for row in found.rows} == {1.5, None}
    assert found.run["left_out"] == ["8 rows of net on drawn left out: only the time, measured on cpu (b)"]
    results = found.summaries["drawn", "net"].results
    assert all(result.mean("ms") == 1.5 and result.count == 6 for result in results)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("model_fingerprint", "the model's weights or preprocessing changed"),
        ("protocol", "the protocol changed"),
        ("conditions", "the model, the data or the batch changed"),
        ("setting", "the method's parameters, code, layer or library changed"),
        ("picture", "the picture or its label changed"),
    ],
)
def test_without_a_manifest_unequal_rows_are_not_pooled(tmp_path, column, reason):
    same = {"setting": "s", "protocol": "p", "model_fingerprint": "m", "conditions": "c", "picture": "i", "seed": 0}
    rows = [row | same for row in drawn_rows(5)]
    others = [row | same | {column: "other", "unit_id": f"{row['unit_id']} again"} for row in rows[:8]]
    if column == "picture":
        others = [row | {"unit_id": f"{row['unit_id']} {seed}", "seed": seed} for row in others for seed in (1, 2)]
    found = pooled(tmp_path, rows + others)
    kept = rows if column != "picture" else rows[8:] + others
    assert {row["unit_id"] for row in found.rows} == {row["unit_id"] for row in kept}
    assert found.run["left_out"] == [f"8 rows of net on drawn left out: {reason}"]


def test_of_equally_many_unequal_rows_the_last_are_pooled(tmp_path):
    rows = [row | {"setting": "s", "conditions": "c"} for row in drawn_rows(2)]
    later = [row | {"conditions": "later", "unit_id": f"{row['unit_id']} again"} for row in rows]
    assert {row["conditions"] for row in pooled(tmp_path, rows + later).rows} == {"later"}


@pytest.mark.slow
def test_another_library_is_another_row(tmp_path):
    folders = [pictures(tmp_path / name / "references", seed, "png", count=12) for name, seed in (("a", 1), ("b", 5))]
    for folder in folders:
        lines = [f"{place}.png,{place % 6}" for place in range(12)]
        (folder / "labels.csv").write_text("\n".join(["file,class_index", *lines]), encoding="utf-8")
    found = []
    for folder in folders:
        data = {"kind": "images", "path": folder, "labels": "labels.csv"}
        outcome = measured(tmp_path / "out", methods=["libra-cam", "saliency"], library={"data": data, "references": 2})
        found.append((outcome.computed, numbers(tmp_path / "out")))
    assert [computed for computed, _ in found] == [4, 2]
    assert found[0][1] != found[1][1]
    assert len(list((tmp_path / "out" / "libraries").iterdir())) == 2
    shutil.move(folders[1], tmp_path / "elsewhere")
    data["path"] = tmp_path / "elsewhere"
    library = {"data": data, "references": 2}
    assert measured(tmp_path / "out", methods=["libra-cam", "saliency"], library=library).computed == 0


def test_a_library_file_is_its_content(tmp_path):
    from xaikit.api import build_library
    from xaikit.benchmark.libraries import library_id
    from xaikit.benchmark.suite_entries import References

    classifier, found = load("texture-cnn", device="cpu"), []
    for seed, name in ((1, "a"), (1, "b"), (5, "c")):
        drawn = draw(12, seed)
        build_library(classifier, [(drawn.pixels, drawn.labels)], 2).save(tmp_path / f"{name}.safetensors")
        found.append(library_id(References(file=tmp_path / f"{name}.safetensors"), classifier))
    assert found[0] == found[1] != found[2], "the same library built again is the same, whatever its bytes"


def test_drawn_pictures_are_those_of_the_suites_own_data(tmp_path):
    """Two data sets have pictures of equal names: those of the one are not drawn of the other's, nor again."""
    one, other, out = pictures(tmp_path / "one", 1), pictures(tmp_path / "other", 5), tmp_path / "out"
    suites = [
        Suite.of(**(FEW | {"data": {"kind": "images", "path": folder, "name": folder.name}, "threads": 1}))
        for folder in (one, other)
    ]
    for suite in suites:
        run(suite, out)
    lines: list[str] = []
    for suite in suites:
        write_pictures(suite, out, read_benchmark(out), "cpu", lines.append)
    assert lines == ["2 maps to draw for the report"] * 2
    shown = listed_pictures(out)
    drawn = {
        file: file.read_bytes() for images in shown.values() for files in images.values() for file in files.values()
    }
    assert {name[0] for name in shown} == {"one", "other"}
    assert len(drawn) == 8 == len(set(drawn.values()))
    for suite in suites:
        write_pictures(suite, out, read_benchmark(out), "cpu", lines.append)
    assert len(lines) == 2, "nothing is left to draw"
    assert {file: file.read_bytes() for file in drawn} == drawn


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
@pytest.mark.slow
def test_damaged_pictures_of_a_report_are_drawn_again(tmp_path, damage):
    from xaikit.runs.page import write_all

    suite, out = Suite.of(**(FEW | {"data": {"kind": "synthetic", "count": 1}, "threads": 1})), tmp_path / "out"
    run(suite, out)
    write_pictures(suite, out, read_benchmark(out), "cpu")
    drawn = {file: file.read_bytes() for file in (out / "pictures").iterdir()}
    assert len(drawn) == 3, "input, evidence and map"
    for file, content in drawn.items():
        flipped = content[:200] + bytes([content[200] ^ 1]) + content[201:]
        damaged = {"empty": b"", "truncated": content[:-9], "flipped": flipped, "text": b"no picture"}[damage]
        file.write_bytes(damaged)
        (out / "pictures.json").write_bytes(b'{"pictures": [3')
        write_pictures(suite, out, read_benchmark(out), "cpu")
        assert file.read_bytes() == content
        write_all(out, read_benchmark(out), print)


@pytest.mark.parametrize("place", ["out", "deep/out", "link"])
def test_what_a_benchmark_writes_is_never_its_data(tmp_path, place):
    folder = pictures(tmp_path / "pictures", 1)
    (tmp_path / "link").symlink_to(folder)
    output = tmp_path / "link" / "out" if place == "link" else folder / place
    for changed in (
        {},
        {"data": {"kind": "synthetic", "count": 1}, "library": {"data": {"kind": "images", "path": folder}}},
    ):
        data = {"data": {"kind": "images", "path": folder}} | changed
        with pytest.raises(BadInput, match="expected a folder outside the data"):
            run(Suite.of(**(FEW | {"methods": ["libra-cam"]} | data)), output)
    assert sorted(file.name for file in folder.iterdir()) == ["0.bmp", "1.bmp"]


def test_names_that_are_no_text_are_measured(tmp_path):
    folder = pictures(tmp_path / "pictures", 1)
    for place, name in enumerate((b"bad\xff.bmp", b"bad\xfe.bmp")):
        (folder / f"{place}.bmp").rename(folder / os.fsdecode(name))
    assert measured(tmp_path / "out", folder).computed == 2
    assert {row["image_id"] for row in read_benchmark(tmp_path / "out").rows} == {"bad\\udcff.bmp", "bad\\udcfe.bmp"}


def test_models_of_one_name_need_a_label_and_lose_nothing(tmp_path):
    names = [str(shutil.copytree(package_data("models/texture-cnn"), tmp_path / one / "net")) for one in "ab"]
    with pytest.raises(BadInput, match="expected different models, got 'net' twice; give one a label"):
        measured(tmp_path / "out", models=names)
    models = [{"name": names[0]}, {"name": names[1], "label": "other"}]
    outcome = measured(tmp_path / "out", models=models)
    assert (outcome.units, outcome.computed, outcome.done) == (4, 4, 4), "equal weights are two models"
    assert [row["model"] for row in read_benchmark(tmp_path / "out").rows] == ["net", "net", "other", "other"]
    assert measured(tmp_path / "out", models=models).done == 4


def test_models_of_one_name_in_two_runs_are_not_pooled(tmp_path):
    from safetensors.torch import load_file, save_file

    names = [shutil.copytree(package_data("models/texture-cnn"), tmp_path / one / "net") for one in "ab"]
    weights = load_file(names[1] / "weights.safetensors")
    save_file(
        {name: tensor * 1.1 if tensor.is_floating_point() else tensor for name, tensor in weights.items()},
        names[1] / "weights.safetensors",
    )
    for name in names:
        measured(tmp_path / "out", models=[{"name": str(name), "weights": str(name / "weights.safetensors")}])
    assert len({row["model_fingerprint"] for row in read_benchmark(tmp_path / "out").rows}) == 1
    reason = "the model's weights or preprocessing changed"
    assert left_out(tmp_path / "out") == [f"2 rows of net on texture in shape left out: {reason}"]


def test_hashing_a_picture_is_a_small_part_of_measuring_it(tmp_path):
    """A photograph takes far longer to decode, not to speak of explaining it."""
    import time

    from xaikit.benchmark.dataset import open_data
    from xaikit.images.decoding import decode

    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    (tmp_path / "p").mkdir()
    for place in range(20):
        Image.fromarray(noise).save(tmp_path / "p" / f"{place}.jpg", quality=95)
    suite = Suite.of(**(FEW | {"data": {"kind": "images", "path": tmp_path / "p"}}))
    begin = time.process_time()
    found = open_data(suite.data).pictures
    planned = time.process_time() - begin
    begin = time.process_time()
    for picture in found:
        decode(picture.path, 3)
    assert planned < 0.5 * (time.process_time() - begin)
