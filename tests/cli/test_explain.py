"""`xaikit explain` on good input: what it writes and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xaikit
from tests.cli.conftest import Command, draw
from tests.images.formats.test_dicom import written
from xaikit.cli.terminal import progress_bar
from xaikit.foundation.flags import described

RECORD = {
    "file",
    "sha256",
    "original_size",
    "box",
    "model",
    "weights",
    "layer",
    "method",
    "target",
    "label",
    "probability",
    "score",
    "params",
    "flags",
    "completeness",
    "seconds",
    "outputs",
}


def results(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))


def test_writes_panel_overlays_values_and_records(explain: Command, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    draw(folder / "b.png", 1)
    draw(folder / "a.png", 2)
    done = explain(folder, "--method", "grad-cam", "--method", "saliency")
    assert (done.code, done.err) == (0, "")
    written = results(tmp_path)
    records = written["records"]
    assert [(Path(one["file"]).name, one["method"]) for one in records] == [
        ("a.png", "grad-cam"),
        ("a.png", "saliency"),
        ("b.png", "grad-cam"),
        ("b.png", "saliency"),
    ]
    assert all(set(one) == RECORD for one in records)
    assert {"command", "versions", "device", "seed", "model", "date"} <= set(written["run"])
    assert len(written["run"]["model"]["fingerprint"]) == 16
    with np.load(tmp_path / "out" / "attributions.npz") as values:
        assert {key: values[key].ndim for key in values.files} == {one["outputs"]["values"]: 2 for one in records}
    for one in records:
        with Image.open(tmp_path / "out" / one["outputs"]["overlay"]) as overlay:
            assert overlay.size == (64, 64)
        with Image.open(tmp_path / "out" / one["outputs"]["panel"]) as panel:
            assert panel.width > 600
    assert len(list((tmp_path / "out").rglob("*.tmp*"))) == 0
    assert "2 images, 2 methods" in done.out


def test_grad_cam_of_the_top_class_is_the_default(explain: Command, photo: Path, tmp_path: Path) -> None:
    assert explain(photo).code == 0
    (record,) = results(tmp_path)["records"]
    assert record["method"] == "grad-cam"
    assert record["probability"] >= 1 / 6


@pytest.mark.parametrize(("target", "index"), [("3", 3), ("dots", 5), ("Vertical Stripes", 1)])
def test_target_by_index_or_label(explain: Command, photo: Path, tmp_path: Path, target: str, index: int) -> None:
    assert explain(photo, "--target", target).code == 0
    assert results(tmp_path)["records"][0]["target"] == index


def test_parameter_for_all_and_for_one_method(explain: Command, photo: Path, tmp_path: Path) -> None:
    chosen = ["--method", "occlusion", "--method", "random-grid", "--method", "saliency"]
    assert explain(photo, *chosen, "--param", "occlusion.window=32", "--param", "grid=4").code == 0
    params = {one["method"]: one["params"] for one in results(tmp_path)["records"]}
    assert params["occlusion"]["window"] == 32
    assert params["random-grid"]["grid"] == 4


@pytest.mark.parametrize(("options", "size"), [((), (96, 40)), (("--crop",), (64, 64))])
def test_overlays_are_as_large_as_the_original_or_with_crop_as_the_network_sees_it(
    explain: Command, photo: Path, tmp_path: Path, options: tuple[str, ...], size: tuple[int, int]
) -> None:
    with Image.open(photo) as picture:
        picture.resize((96, 40)).save(tmp_path / "wide.png")
    assert explain(tmp_path / "wide.png", *options).code == 0
    (record,) = results(tmp_path)["records"]
    assert (record["original_size"], record["box"]) == ([40, 96], [0, 0, 40, 96])
    with Image.open(tmp_path / "out" / record["outputs"]["overlay"]) as overlay:
        assert overlay.size == size


@pytest.mark.slow
def test_deep_pictures_of_every_kind_are_explained_and_the_others_named(explain: Command, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (64, 64), np.uint16)
    written(folder / "a.dcm", values)
    written(folder / "b.dcm", None)
    Image.fromarray(values).save(folder / "c.png")
    Image.fromarray((values // 16).astype(np.uint8)).save(folder / "d.avif")
    np.save(folder / "e.npy", values)
    np.save(folder / "f.npy", values[None])
    done = explain(folder, "--value-range", "0,4095")
    assert (done.code, len(done.err.splitlines())) == (1, 2)
    assert "b.dcm: expected a DICOM file with a picture, got one without pixels" in done.err
    assert "f.npy: expected an array (H, W) or (H, W, C), got (1, 64, 64)" in done.err
    scores = {Path(one["file"]).name: one.get("score") for one in results(tmp_path)["records"]}
    assert list(scores) == ["a.dcm", "b.dcm", "c.png", "d.avif", "e.npy", "f.npy"]
    assert scores["a.dcm"] == pytest.approx(scores["c.png"]) == pytest.approx(scores["e.npy"])


@pytest.mark.slow
def test_the_whole_picture_can_be_padded(explain: Command, photo: Path, tmp_path: Path) -> None:
    with Image.open(photo) as picture:
        picture.resize((96, 48)).save(tmp_path / "wide.png")
    assert explain(tmp_path / "wide.png", "--resize", "pad").code == 0
    (record,) = results(tmp_path)["records"]
    assert (record["original_size"], record["box"]) == ([48, 96], [-24, 0, 72, 96])
    done = explain(photo, "--resize", "stretch")
    assert (done.code, "expected weights, squash, pad or native, got 'stretch'" in done.err) == (2, True)


@pytest.mark.parametrize("text", ["4095", "a,b", "4095,0", "0,1,2", "0,inf"])
def test_a_range_is_two_numbers(explain: Command, photo: Path, text: str) -> None:
    done = explain(photo, "--value-range", text)
    assert done.code == 2
    assert done.err == f"xaikit: --value-range: expected LOW,HIGH, got {text!r}; for example 0,4095\n"


def test_json_prints_the_results_and_nothing_else(explain: Command, photo: Path, tmp_path: Path) -> None:
    done = explain(photo, "--json")
    written = results(tmp_path)
    assert json.loads(done.out) == {"run": written["run"], "records": written["records"]}


def test_verbose_shows_flags_and_completeness(explain: Command, photo: Path) -> None:
    done = explain(photo, "--method", "integrated-gradients", "--method", "ones", "--verbose")
    assert done.code == 0
    assert "completeness" in done.out
    assert "constant" in done.out


@pytest.mark.slow
def test_a_flag_is_explained_once_on_standard_error(explain: Command, tmp_path: Path) -> None:
    for number in range(2):
        draw(tmp_path / "album" / f"{number}.png", number)
    done = explain(tmp_path / "album", "--method", "libra-cam", "--method", "grad-cam", "--param", "references=2")
    assert done.code == 0
    assert done.line == f"xaikit: libra-cam (2): {described('default-library')}"


def test_equal_names_in_different_folders_stay_apart(explain: Command, tmp_path: Path) -> None:
    for number, name in enumerate(["a/x.png", "b/x.png", "b/X.bmp"]):
        draw(tmp_path / "album" / name, number)
    assert explain(tmp_path / "album").code == 0
    outputs = {one["outputs"]["panel"].casefold() for one in results(tmp_path)["records"]}
    assert len(outputs) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux file names need not be text")
def test_a_file_name_that_is_no_text(explain: Command, tmp_path: Path) -> None:
    photo = draw(tmp_path / "photo.png").rename(tmp_path / "caf\udce9.png")
    assert explain(photo).code == 0
    assert Path(results(tmp_path)["records"][0]["file"]).name == "caf?.png"


def test_kept_channels_are_written_and_drawn(explain: Command, photo: Path, tmp_path: Path) -> None:
    assert explain(photo, "--method", "saliency", "--param", "channels=true").code == 0
    with np.load(tmp_path / "out" / "attributions.npz") as values:
        assert values["photo/saliency"].shape == (3, 64, 64)


def test_a_plugin_brings_its_method(explain: Command, photo: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from xaikit.methods.base import METHODS, Cost, InputMethod, Values\n"
        "@METHODS.register\n"
        "@dataclass(frozen=True)\n"
        "class Mine(InputMethod):\n"
        "    name, family, source = 'tests-mine', 'control', 'here'\n"
        "    def compute(self, batch):\n"
        "        return Values(batch.pixels)\n"
        "    def cost(self, size):\n"
        "        return Cost(1, 0)\n",
        encoding="utf-8",
    )
    try:
        assert explain(photo, "--plugin", plugin, "--method", "tests-mine").code == 0
    finally:
        from xaikit.methods.base import METHODS

        METHODS._entries.pop("tests-mine", None)
    assert (tmp_path / "out" / "overlays" / "photo.tests-mine.png").is_file()


def test_a_second_run_repeats_the_first_to_the_bit(explain: Command, photo: Path, tmp_path: Path) -> None:
    values = []
    for _ in range(2):
        assert explain(photo, "--method", "random", "--method", "grad-cam", "--seed", "5").code == 0
        values.append((tmp_path / "out" / "attributions.npz").read_bytes())
        (tmp_path / "out" / "results.json").unlink()
    assert values[0] == values[1]
    assert (tmp_path / "out" / "earlier" / "1" / "attributions.npz").read_bytes() == values[0]


@pytest.mark.parametrize(
    "changed",
    [
        ["--seed", "1"],
        ["--target", "dots"],
        ["--method", "saliency"],
        ["--layer", "features.4"],
        ["other"],
    ],
    ids=" ".join,
)
@pytest.mark.slow
def test_another_request_in_the_same_folder_keeps_the_earlier_results_apart(
    explain: Command, photo: Path, tmp_path: Path, changed: list[str]
) -> None:
    assert explain(photo, "--method", "grad-cam").code == 0
    before = (tmp_path / "out" / "attributions.npz").read_bytes()
    if changed == ["other"]:
        done = explain(draw(tmp_path / "other.png", 5))
    else:
        done = explain(photo, *([] if "--method" in changed else ["--method", "grad-cam"]), *changed)
    assert done.code == 0
    assert done.line.endswith("earlier/1")
    assert (tmp_path / "out" / "earlier" / "1" / "attributions.npz").read_bytes() == before
    (record,) = results(tmp_path)["records"]
    assert len(list((tmp_path / "out" / "panels").iterdir())) == 1
    with np.load(tmp_path / "out" / "attributions.npz") as values:
        assert values.files == [record["outputs"]["values"]]


def test_the_same_request_of_a_replaced_picture_is_explained_anew(
    explain: Command, photo: Path, tmp_path: Path
) -> None:
    assert explain(photo).code == 0
    (first,) = results(tmp_path)["records"]
    assert explain(photo).line == "xaikit: 1 of 1 pictures are explained already and are kept"
    draw(photo, 8)
    assert explain(photo).line.endswith("earlier/1")
    (second,) = results(tmp_path)["records"]
    assert first["sha256"] != second["sha256"]
    assert first["score"] != second["score"]


def test_a_plugin_with_other_code_is_another_request(explain: Command, photo: Path, tmp_path: Path) -> None:
    from xaikit.methods.base import METHODS

    for sign in ("", "-"):
        plugin = tmp_path / "mine.py"
        plugin.write_text(
            "from dataclasses import dataclass\n"
            "from xaikit.extend import METHODS, Cost, InputMethod, Values\n"
            "@METHODS.register\n"
            "@dataclass(frozen=True)\n"
            "class Signed(InputMethod):\n"
            "    name, family, source = 'tests-signed', 'control', 'here'\n"
            f"    def compute(self, batch):\n        return Values({sign}batch.pixels)\n"
            "    def cost(self, size):\n        return Cost(1, 0)\n",
            encoding="utf-8",
        )
        try:
            done = explain(photo, "--plugin", plugin, "--method", "tests-signed")
        finally:
            METHODS._entries.pop("tests-signed", None)
        assert done.code == 0
    assert done.line.endswith("earlier/1")


def test_records_name_no_folder_above(explain: Command, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    explain(photo, tmp_path / "empty.png", tmp_path / "missing.png")
    assert str(tmp_path.parent) not in (tmp_path / "out" / "results.json").read_text(encoding="utf-8")


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        bar(1, 2, "images")
        bar.message(1, 2, "epoch 1")
    assert capsys.readouterr() == ("", "")


@pytest.mark.real
def test_photographs_with_local_weights(run: Command, real_data: Path, tmp_path: Path) -> None:
    photographs = sorted((real_data / "imagenet").glob("*.jpg"))[:2]
    weights = real_data / "weights" / "squeezenet1_0_imagenet.pth"
    options = ["--model", "squeezenet1_0", "--weights", weights, "-o", tmp_path / "out"]
    done = run("explain", *photographs, *options, "--method", "cam", "--method", "grad-cam")
    assert (done.code, done.err) == (0, "")
    records = results(tmp_path)["records"]
    assert [one["label"].replace(" ", "_") in one["file"] for one in records] == [True] * 4


def test_what_was_written_before_is_not_explained(
    explain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png", 1)
    for _ in range(2):
        assert explain(tmp_path).code == 0
        assert [Path(one["file"]).name for one in results(tmp_path)["records"]] == ["a.png"]
    done = explain(tmp_path / "out")
    assert done.code == 2
    assert "expected images, got only the results of an earlier run" in done.line
    panel = next((tmp_path / "out" / "panels").iterdir())
    before = panel.read_bytes()
    done = explain(panel)  # it would be replaced by its own explanation
    assert done.code == 2
    assert "outside the output's panels" in done.line
    assert panel.read_bytes() == before


@pytest.mark.parametrize("name", ["GradCAM", "IG", "grad-cam++"])
def test_names_in_any_spelling_are_recorded_as_registered(
    explain: Command, photo: Path, tmp_path: Path, name: str
) -> None:
    parameter = ["--param", f"{name}.steps=3"] if name == "IG" else []
    assert explain(photo, "--method", name, *parameter).code == 0
    registered = {"GradCAM": "grad-cam", "IG": "integrated-gradients", "grad-cam++": "grad-cam-plus-plus"}
    (record,) = results(tmp_path)["records"]
    assert record["method"] == registered[name]


def test_a_class_is_explained_against_another(explain: Command, photo: Path, tmp_path: Path) -> None:
    assert explain(photo, "--method", "saliency", "--target", "dots", "--against", "1").code == 0
    (record,) = results(tmp_path)["records"]
    assert record["label"] == "dots against vertical stripes"
    assert results(tmp_path)["run"]["target"] == "dots"
    assert results(tmp_path)["run"]["against"] == "1"
    clf = xaikit.load("texture-cnn", device="cpu")
    found = xaikit.attribute(clf, clf.read(photo), xaikit.Contrast("dots", 1), "saliency")
    assert record["score"] == pytest.approx(float(found.scores[0]), rel=1e-5)
    assert explain(photo, "--target", "dots", "--against", "runner-up").code == 0


def test_against_a_label_that_does_not_exist(explain: Command, photo: Path) -> None:
    done = explain(photo, "--against", "nope")
    assert (done.code, "unknown label 'nope'" in done.line) == (2, True)


def test_a_folder_is_the_library(explain: Command, photo: Path, tmp_path: Path) -> None:
    from tests.methods.test_spellings import photographs

    folder = photographs(tmp_path / "photos")
    done = explain(photo, "--method", "libra-cam", "--library", folder, "--param", "references=4")
    assert (done.code, done.err) == (0, "")
    assert results(tmp_path)["records"][0]["flags"] == []


@pytest.mark.parametrize(
    "twice",
    [("--target", "1", "2"), ("--model", "texture-cnn", "texture-cnn"), ("--seed", "1", "2"), ("-o", "a", "b")],
)
def test_an_option_given_twice_is_refused(
    run: Command, photo: Path, twice: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    option, first, second = twice
    done = run("explain", photo, option, first, option, second)
    assert done.code == 2
    assert done.line.endswith("expected once, got it 2 times; give one")
    assert not Path("out").exists()


def test_a_keyword_of_another_package_is_refused_with_ours(explain: Command, photo: Path) -> None:
    done = explain(photo, "--method", "IG", "--param", "n_steps=3")
    assert done.line == "xaikit: --param: expected a keyword of xaikit, got 'n_steps'; use steps="
