"""Odd labels, suites, methods and names are one clear line before anything is computed; no absolute path is kept."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from xaikit.api import load
from xaikit.benchmark.rows import checked
from xaikit.benchmark.run import run
from xaikit.benchmark.score import Images, score
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.extend import Cost, Measure, Method, Values
from xaikit.foundation.errors import BadInput, CannotWrite, XaikitError, XaikitWarning
from xaikit.foundation.paths import relative, shortened, shortened_words, without_folders
from xaikit.methods.base import METHODS, attribute_all
from xaikit.report.numbers.read import read_benchmark
from xaikit.run.context import Context
from xaikit.run.portions import attempt
from xaikit.runs.page import write_all

FEW = {"models": ["texture-cnn"], "methods": ["saliency"], "controls": [], "measures": ["api"], "levels": 2}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "mine").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / "mine" / f"{name}.png")
    return tmp_path / "mine"


def measured(folder: Path, **changed):
    data = {"kind": "images", "path": folder, "labels": "labels.csv"}
    return run(Suite.of(**(FEW | {"data": data, "target": "label"} | changed)), folder.parent / "out")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_are_read_with_and_without_a_byte_order_mark(folder, encoding):
    (folder / "labels.csv").write_text("file,class_index\na.png,1\nb.png,2\n", encoding=encoding)
    assert measured(folder).computed == 2
    assert {row["label"] for file in Store(folder.parent / "out").files() for row in checked(file).to_pylist()} == {
        1,
        2,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,class_index\na.png,99\nb.png,1\n", r"a\.png: expected a class index below 6, got 99; correct it"),
        ("file,class_index\na.png,6\n", r"a\.png: expected a class index below 6, got 6; correct it"),
        ("file,class_index\na.png,-5\n", r"a\.png: expected a class index from 0, got -5; correct it"),
        ("file,class_index\na.png,1\na.png,2\n", r"expected each file once, got 'a\.png' twice; remove a line"),
        ("file,class_index\na.png,1\na.png,1\n", r"expected each file once, got 'a\.png' twice; remove a line"),
        ("file,class_index\na.png,1.5\n", "expected a CSV with the columns file and class_index"),
        ("file,class_index\na.png\n", "expected a CSV with the columns file and class_index"),
        ("file,class_index\na.png,1,2\n", "expected a CSV .*, got ValueError.'line 2 with other cells'."),
        ("file,label\na.png,1\n", "expected the columns file and class_index, got none of 'class_index'; add it"),
        ("file,class_index\n", "expected names of the pictures, got no line"),
        ("", "expected the columns file and class_index, got none of 'file'; add it"),
        ("file,class_index\nmine/a.png,1\n", r"expected names of the pictures, got none of 1, such as 'mine/a\.png'"),
    ],
)
def test_odd_labels_are_one_line(folder, text, reason):
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=reason) as caught:
        measured(folder)
    assert "\n" not in str(caught.value)
    assert not Store(folder.parent / "out").files()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"seeds": [0, 0]}, "seeds: expected different numbers, got 0 twice; remove one"),
        ({"seeds": [3, 1, 3]}, "seeds: expected different numbers, got 3 twice; remove one"),
        ({"methods": [{"name": "saliency", "label": "random"}]}, "label: expected no name of a control, got 'random'"),
        ({"methods": [{"name": "saliency", "label": "oracle"}]}, "label: expected no name of a control, got 'oracle'"),
        (
            {"methods": [{"name": "saliency", "label": "base"}], "controls": [{"name": "random", "label": "base"}]},
            "label: expected no name of a control, got 'base'",
        ),
        ({"target": True}, "expected top, label, or a class by name or index, got True"),
        ({"target": 1.5}, "expected top, label, or a class by name or index, got 1.5"),
        ({"threads": 10**6}, "threads: input should be less than or equal to 1024, got 1000000"),
    ],
)
def test_odd_suites_are_one_line(changed, reason):
    with pytest.raises(BadInput, match=reason):
        Suite.of(**(FEW | {"data": {"kind": "synthetic"}} | changed))


def test_labels_of_no_picture_are_told(folder):
    (folder / "labels.csv").write_text("file,class_index\na.png,1\nb.png,1\n0b.png,2\n", encoding="utf-8")
    with pytest.warns(XaikitWarning, match=r"labels\.csv: 1 of 3 names are those of no picture, such as '0b\.png'"):
        assert measured(folder).computed == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_labels_from_a_pipe_are_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "labels.csv")
    with pytest.raises(BadInput, match=r"labels\.csv: expected a CSV .*, got a pipe"):
        measured(folder)


@pytest.mark.parametrize("target", [99, -1, "", "Unknown"])
def test_a_target_that_the_model_lacks_is_refused_before_anything_is_recorded(tmp_path, target):
    run(Suite.of(**(FEW | {"data": {"kind": "synthetic", "count": 1}})), tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(XaikitError):
        run(Suite.of(**(FEW | {"data": {"kind": "synthetic", "count": 1}, "target": target})), tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert len(Store(tmp_path).files()) == 1


def test_a_control_may_be_listed_as_a_method():
    data = {"kind": "synthetic"}
    listed = Suite.of(**(FEW | {"data": data, "methods": ["saliency", "random"], "controls": ["random", "center"]}))
    assert [method.title for method in listed.all_methods] == ["saliency", "random", "center"]


@dataclass(frozen=True)
class Miscounted(Method):
    """Returns `maps` maps, and flags for `flagged` images, whatever the batch."""

    maps: int = 2
    flagged: int = 0

    name = "miscounted"
    family = "gradient"
    source = "a test"
    passes = Cost(0)

    def compute(self, batch):
        return Values(torch.rand(self.maps, 4, 4), flags=[set() for _ in range(self.flagged)])


@pytest.mark.parametrize("maps", [1, 2, 4])
def test_values_of_the_wrong_count_are_refused(maps):
    classifier = load("texture-cnn", device="cpu")
    with pytest.raises(BadInput, match=rf"miscounted: expected values \(3, h, w\) .* got \({maps}, 4, 4\)"):
        Miscounted(classifier, maps=maps).attribute(torch.rand(3, 3, 64, 64))
    with pytest.raises(BadInput, match="miscounted: flags: expected 3, one per image, got 2"):
        Miscounted(classifier, maps=3, flagged=2).attribute(torch.rand(3, 3, 64, 64))
    assert len(Miscounted(classifier, maps=3).attribute(torch.rand(3, 3, 64, 64))) == 3


@dataclass(frozen=True)
class Odd(Method):
    """Returns what no method may return, or does what none may do."""

    kind: str = ""

    name = "odd"
    family = "gradient"
    source = "a test"
    passes = Cost(0)

    def compute(self, batch):
        maps = torch.rand(len(batch), 4, 4)
        first = next(self.classifier.module.parameters())
        if self.kind == "scaled":
            first.data.mul_(1.5)
        elif self.kind == "other storage":
            first.data = first.data * 1.5
        elif self.kind == "replaced":
            owner = next(module for module in self.classifier.module.modules() if hasattr(module, "weight"))
            owner.weight = torch.nn.Parameter(owner.weight * 1.5)
        elif self.kind == "settings":
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(torch.get_num_threads() + 1)
        elif self.kind == "exit":
            raise SystemExit(0)
        return {"none": None, "tensor": maps, "numpy": Values(maps.numpy()), "complex": Values(maps + 0j)}.get(
            self.kind, Values(maps[:, :0] if self.kind == "empty" else maps)
        )


@pytest.mark.parametrize("kind", ["none", "tensor", "numpy", "complex", "empty"])
def test_values_of_another_form_are_refused(kind):
    classifier = load("texture-cnn", device="cpu")
    with pytest.raises(BadInput, match=r"^odd: expected (Values of a real tensor|values \(2, h, w\))"):
        Odd(classifier, kind=kind).attribute(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("kind", ["scaled", "other storage", "replaced"])
def test_a_plugin_that_changes_the_weights_is_refused_and_the_others_see_none_of_it(kind):
    classifier = load("texture-cnn", device="cpu")
    pixels, before = torch.rand(2, 3, 64, 64), classifier.fingerprint
    parameters = list(classifier.module.parameters())
    with pytest.raises(BadInput, match=r"^odd: expected the network's weights as they were, got other ones"):
        attribute_all([Odd(classifier, kind=kind)], pixels, None, Context())
    assert classifier.fingerprint == before
    assert all(one is other for one, other in zip(classifier.module.parameters(), parameters, strict=True))


def test_what_a_plugin_sets_in_torch_is_put_back():
    before = torch.get_default_dtype(), torch.get_num_threads()
    Odd(load("texture-cnn", device="cpu"), kind="settings").attribute(torch.rand(1, 3, 64, 64))
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before


class Spoiling(Measure):
    """Changes the weights."""

    name = "spoiling"
    direction = "none"
    source = "a test"
    needs = frozenset()

    def compute(self, subject):
        next(subject.classifier.module.parameters()).data.zero_()
        return torch.zeros(len(subject.pixels))


def test_a_measure_that_changes_the_weights_is_refused():
    classifier = load("texture-cnn", device="cpu")
    before = classifier.fingerprint
    images = Images("drawn", ["a", "b"], torch.rand(2, 3, 64, 64))
    with pytest.raises(BadInput, match=r"^mine: expected the network's weights as they were"):
        score([METHODS.get("saliency")(classifier)], images, measures={"mine": Spoiling()}, levels=2)
    assert classifier.fingerprint == before


def test_code_that_exits_is_a_failure_of_the_picture():
    classifier = load("texture-cnn", device="cpu")
    method = Odd(classifier, kind="exit")
    errors = attempt(lambda some: [method.attribute(pixels[None]) for pixels in some], list(torch.rand(2, 3, 64, 64)))
    assert [str(error) for error in errors] == ["the code ended with sys.exit(0)"] * 2


def test_a_full_disk_is_no_failure_of_the_picture(tmp_path, monkeypatch):
    """It ends the run; the same run goes on when there is space again."""

    @contextmanager
    def full(path):
        raise CannotWrite(f"{path}: cannot be written (No space left on device); choose another output")
        yield

    data = {"kind": "synthetic", "count": 12, "seed": 5}
    library = {"data": data, "references": 2}
    suite = Suite.of(**(FEW | {"data": data | {"count": 2}, "methods": ["libra-cam"], "library": library}))
    with monkeypatch.context() as patch:
        patch.setattr("xaikit.foundation.tensor_files.atomic", full)
        with pytest.raises(CannotWrite, match="No space left"):
            run(suite, tmp_path)
    outcome = run(suite, tmp_path)
    assert (outcome.before, outcome.computed, outcome.failed) == (0, 2, [])


class MiscountedMeasure(Measure):
    """Returns one value, whatever the batch."""

    name = "miscounted-measure"
    direction = "none"
    source = "a test"
    needs = frozenset()

    def compute(self, subject):
        return torch.zeros(1)


def test_measures_of_the_wrong_count_are_refused():
    classifier = load("texture-cnn", device="cpu")
    images = Images("drawn", ["a", "b"], torch.rand(2, 3, 64, 64))
    with pytest.raises(BadInput, match=r"mine: expected 2 values, one per image, got \(1,\)"):
        score([METHODS.get("saliency")(classifier)], images, measures={"mine": MiscountedMeasure()}, levels=2)


@pytest.mark.parametrize("letter", ["n", "é", "木"])
def test_long_names_do_not_fail_after_everything_is_computed(tmp_path, letter):
    data = {"kind": "synthetic", "count": 2, "name": letter * 300}
    models = [{"name": "texture-cnn", "label": letter * 200}]
    run(Suite.of(**(FEW | {"data": data, "models": models})), tmp_path)
    assert len(write_all(tmp_path, read_benchmark(tmp_path), print)) == 1
    names = [file.name for file in (tmp_path / "figures").iterdir()]
    assert names
    assert all(len(name.encode()) < 200 for name in names)


def test_nothing_absolute_is_recorded(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "bad.png").write_text("no picture", encoding="utf-8")
    (folder / "labels.csv").write_text("file,class_index\na.png,1\nb.png,2\n", encoding="utf-8")
    outcome = measured(folder, target="top")
    assert [reason.partition(":")[0] for *_, reason in outcome.failed] == ["bad.png"]
    manifest = (folder.parent / "out" / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(manifest)["suite"]["data"]["path"] == "mine"
    texts = [manifest, *(str(row) for file in Store(folder.parent / "out").files() for row in checked(file))]
    assert not any(str(folder.parent) in text for text in texts)


def test_paths_are_shortened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "data" / "x.png", tmp_path.parent / "else" / "y.png"
    assert relative(inside) == "data/x.png"
    assert relative(outside) == "y.png"
    assert relative(Path("../z")) == "../z"
    values = {"a": [inside, str(outside), "top", 3, None], "b": ({"c": str(inside)},)}
    assert shortened(values, relative) == {"a": ["data/x.png", "y.png", "top", 3, None], "b": [{"c": "data/x.png"}]}
    words = ["benchmark", str(inside), f"--data={outside}", "--limit", "3", "a=b"]
    assert shortened_words(words) == ["benchmark", "data/x.png", "--data=y.png", "--limit", "3", "a=b"]
    assert without_folders(f"{outside}: cannot, see {inside}", [outside.parent]) == "y.png: cannot, see data/x.png"
