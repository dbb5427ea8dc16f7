"""The public functions of runs: own classifiers, pictures in memory and folders, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import xaikit
from xaikit.foundation.errors import BadInput
from xaikit.measures.measure import measure

LABELS = ["a", "b", "c", "d"]


class Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture
def clf() -> xaikit.Classifier:
    torch.manual_seed(0)
    return xaikit.Classifier(Mine(), 0.5, size=16, labels=LABELS)


@pytest.fixture
def given() -> tuple[Tensor, Tensor, Tensor]:
    masks = torch.zeros(4, 16, 16, dtype=torch.bool)
    masks[:, 4:9, 4:9] = True
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.arange(4), masks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for place in range(3):
        Image.effect_noise((20, 24), 90).convert("RGB").save(tmp_path / "photos" / f"{place}.png")
    return tmp_path / "photos"


def run(clf: Any, data: Any, output: Path, *methods: Any, **more: Any) -> pd.DataFrame:
    lines: list[str] = more.pop("lines", [])
    return xaikit.benchmark(clf, data, methods or ["saliency"], ["insertion"], output, notice=lines.append, **more)


@pytest.mark.slow
def test_an_own_classifier_and_pictures_in_memory(clf, given, tmp_path):
    found = run({"mine": clf}, given, tmp_path / "out", "saliency", "grad-cam", controls=["random"])
    assert set(found.method) == {"saliency", "grad-cam", "random", "oracle", "anti-oracle"}
    assert set(found.model) == {"mine"}
    assert set(found.status) == {"ok"}
    ours = found[found.method == "saliency"].sort_values("image_id")
    attribution = xaikit.attribute(clf, given[0], method="saliency")
    expected = measure(clf, given[0], attribution, ["insertion"])["insertion"]
    assert ours["measure.insertion"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert ours.label.tolist() == [0, 1, 2, 3]
    oracle = found[found.method == "oracle"]
    assert (oracle.pointing == 1).all()
    assert (tmp_path / "out" / "report.html").is_file()
    assert len(list((tmp_path / "out" / "pictures").glob("*.png"))) == 4 * (2 + 5)


@pytest.mark.slow
def test_bound_methods_and_a_dataset(clf, given, tmp_path):
    bound = xaikit.get_method("rise")(clf, samples=6)
    named = {"name": "rise", "params": {"samples": 6}, "label": "named"}
    found = run({"mine": clf}, TensorDataset(*given), tmp_path / "out", bound, named, controls=[])
    values = {
        name: rows.sort_values("image_id")["measure.insertion"].tolist() for name, rows in found.groupby("method")
    }
    assert values["rise"] == values["named"]
    assert (found[found.method == "oracle"].pointing.count(), set(found.label)) == (0, {0, 1, 2, 3})


@pytest.mark.slow
def test_measures_that_explain_again_leave_maps_of_the_caller_out(clf, given, tmp_path):
    """Given maps are the same for every class, image and network: no value can be had of them."""
    asked = ["coherency", "random-logit", "insertion"]
    lines = list[str]()
    for _ in range(2):
        found = xaikit.benchmark(
            {"mine": clf}, given, ["saliency", {"theirs": torch.rand(4, 8, 8)}], asked, tmp_path / "out",
            controls=["random"], notice=lines.append,
        )  # fmt: skip
    assert set(found.status) == {"ok"}, set(found.error)
    again = found.set_index("method")[["measure.coherency", "measure.random-logit"]].isna().groupby("method").all()
    assert again.all(axis=1).to_dict() == {
        "theirs": True, "oracle": True, "anti-oracle": True, "saliency": False, "random": False,
    }  # fmt: skip
    assert found["measure.insertion"].notna().all()


@pytest.mark.slow
def test_maps_alone_stand_beside_the_controls(clf, given, tmp_path):
    found = run({"mine": clf}, given, tmp_path / "out", {"theirs": torch.rand(4, 8, 8)}, controls=["random"])
    assert set(found.method) == {"theirs", "random", "oracle", "anti-oracle"}


class Sized(Dataset):
    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Any:
        return self.samples[place]


@pytest.mark.slow
def test_the_same_call_computes_nothing_again_and_another_network_all(clf, given, tmp_path):
    run({"mine": clf}, given, tmp_path / "out", controls=[])
    lines: list[str] = []
    run({"mine": clf}, given, tmp_path / "out", controls=[], lines=lines)
    assert lines == ["mine: all 4 units are done"]
    with torch.no_grad():
        clf.module.head.weight.mul_(2)
    run({"mine": clf}, given, tmp_path / "out", controls=[], lines=lines)
    assert any("4 of 4 units to do" in line for line in lines)
    changed = (1 - given[0], *given[1:])
    run({"mine": clf}, changed, tmp_path / "out", controls=[], lines=lines)
    assert sum("4 of 4 units to do" in line for line in lines) == 2


@pytest.mark.slow
def test_a_folder_and_two_models(clf, folder, tmp_path):
    found = run({"mine": clf, "shipped": "texture-cnn"}, folder, tmp_path / "out", controls=[], device="cpu")
    assert sorted(zip(found.model, found.image_id, strict=True)) == [
        (model, f"{place}.png") for model in ("mine", "shipped") for place in range(3)
    ]
    page = tmp_path / "out" / "report.html"
    page.unlink()
    assert xaikit.write_report(tmp_path / "out") == page
    assert "shipped" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_maps_of_the_caller_are_measured_like_those_of_a_method(clf, given, tmp_path):
    theirs = xaikit.attribute(clf, given[0], method="saliency").values
    found = run({"mine": clf}, given, tmp_path / "out", "saliency", {"theirs": theirs.numpy()}, controls=[])
    columns = ["pointing", "measure.insertion", "map_mean"]
    by_method = {name: rows.sort_values("image_id")[columns] for name, rows in found.groupby("method")}
    for column in columns:
        ours, own = (torch.tensor(by_method[name][column].tolist()) for name in ("saliency", "theirs"))
        assert torch.allclose(ours, own, atol=1e-5), column
    assert (found[found.method == "theirs"].family == "given").all()
    lines: list[str] = []
    run({"mine": clf}, given, tmp_path / "out", "saliency", {"theirs": 2 - theirs}, controls=[], lines=lines)
    assert any("4 of 8 units to do" in line for line in lines)


def masked(folder: Path, names: list[str], size: tuple[int, int] = (20, 24)) -> Path:
    """Write masks with a square of evidence beside a folder of pictures."""
    masks = folder.parent / "masks"
    masks.mkdir()
    for name in names:
        mask = Image.new("L", size)
        mask.paste(1, (5, 6, 10, 12))
        mask.save(masks / name)
    return masks


@pytest.mark.slow
def test_masks_beside_the_pictures(clf, folder, tmp_path):
    masks = masked(folder, ["0.png", "1.png", "2.png"])
    found = run({"mine": clf}, folder, tmp_path / "out", masks=masks, controls=["random"])
    oracle = found[found.method == "oracle"]
    assert (oracle.pointing == 1).all()
    assert oracle.map_mean.tolist() == pytest.approx([5 * 6 / (20 * 24)] * 3, abs=0.02)
    assert found[found.method == "saliency"].energy_inside.notna().all()
    Image.new("L", (20, 24), 255).save(masks / "1.png")
    lines: list[str] = []
    run({"mine": clf}, folder, tmp_path / "out", masks=masks, controls=["random"], lines=lines)
    assert any("4 of 12 units to do" in line for line in lines)


@pytest.mark.slow
def test_a_missing_mask_and_one_of_another_size(clf, folder, tmp_path):
    masks = masked(folder, ["0.png", "2.png"])
    Image.new("L", (8, 8), 255).save(masks / "2.png")
    with pytest.warns(xaikit.XaikitWarning, match=r"1 of 3 pictures have no mask, such as '1\.png'"):
        found = run({"mine": clf}, folder, tmp_path / "out", masks=masks, controls=["random"])
    by_image = found[found.method == "saliency"].set_index("image_id")
    assert by_image.status.to_dict() == {"0.png": "ok", "1.png": "ok", "2.png": "error"}
    assert "expected a mask of 24x20, its picture's size, got 8x8" in by_image.error["2.png"]
    assert by_image.pointing.notna().to_dict() == {"0.png": True, "1.png": False, "2.png": False}
    oracle = found[found.method == "oracle"].set_index("image_id")
    assert "expected a mask of the image, got none" in oracle.error["1.png"]


@pytest.mark.parametrize(("given_masks", "message"), [("none", "got nothing there"), ("photos", "")])
def test_a_folder_without_masks_is_one_line(clf, folder, tmp_path, given_masks, message):
    (tmp_path / "photos" / "empty").mkdir()
    place = tmp_path / "none" if given_masks == "none" else tmp_path / "photos" / "empty"
    with pytest.raises(BadInput, match=message or "expected"):
        run({"mine": clf}, folder, tmp_path / "out", masks=place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["nope"]}, r"models\.0\.name: unknown model 'nope'"),
        ({"models": {"mine": 3}}, r"expected a Classifier, got int"),
        ({"models": {"mine": nn.Linear(2, 2)}}, r"got Linear; wrap it: xaikit\.Classifier\(model\)"),
        ({"models": {"": "texture-cnn"}}, r"models: expected classifiers by name, got the name ''"),
        ({"models": [Mine()]}, r"models: expected names, got Mine; give \{\"mine\": classifier\}"),
        ({"data": (torch.rand(2, 3, 16, 16) * 255,)}, r"expected pixels in \[0, 1\]"),
        ({"data": (torch.zeros(2, 3, 16, 16, dtype=torch.uint8),)}, r"data: expected images .*; divide bytes by 255"),
        ({"data": (torch.rand(2, 3, 16, 16), torch.arange(3))}, r"labels: expected 2, one per image, got 3"),
        ({"data": (torch.rand(2, 3, 16, 16), torch.tensor([0, 4]))}, r"labels: 00001: expected a class index below 4"),
        (
            {"data": (torch.rand(2, 3, 16, 16), None, torch.ones(2, 8, 8))},
            r"masks: expected \(2, 16, 16\).*resize",
        ),
        ({"data": (torch.rand(2, 3, 16, 16), 1, 2, 3)}, r"data: expected a folder, or .*, got 4 parts"),
        ({"data": Sized()}, "data: expected a dataset with a length and images, got none"),
        ({"data": Sized(torch.rand(3, 16, 16), torch.rand(3, 8, 8))}, "data: expected images of one size"),
        (
            {"data": Sized((torch.rand(3, 16, 16), "cat"))},
            "data: expected images of one size, and labels that are numb",
        ),
        ({"data": "no/folder"}, r"no/folder: expected a folder of images"),
        ({"methods": ["grad-camm"]}, r"unknown method 'grad-camm'; did you mean grad-cam"),
        ({"measures": ["nope"]}, r"unknown measure 'nope'"),
        ({"methods": ["saliency", {"theirs": torch.rand(3, 16, 16)}]}, r"theirs: expected maps \(4, h, w\) of floats"),
        ({"methods": ["saliency", {"theirs": torch.full((4, 8, 8), torch.nan)}]}, "theirs: expected finite maps"),
        (
            {"methods": ["saliency", {"saliency": torch.rand(4, 8, 8)}]},
            "expected different names, got 'saliency' twice",
        ),
        ({"methods": [{"theirs": torch.rand(4, 8, 8)}]}, "expected a method or controls beside maps of your own"),
        ({"methods": ["rise", {"a": torch.rand(4, 8, 8)}], "data": "demos/pictures"}, "a: expected pictures in memory"),
        ({"target": 9}, r"target: expected a class from 0 to 3, got 9"),
        ({"shade": 1}, r"unknown key 'shade'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(clf, given, tmp_path, change, message):
    arguments = {"models": {"mine": clf}, "data": given, "methods": ["saliency"], "controls": []} | change
    with pytest.raises(BadInput, match=message) as caught:
        xaikit.benchmark(**arguments, output=tmp_path / "out", notice=lambda line: None)
    assert "\n" not in str(caught.value)


def test_own_classifiers_stay_in_this_process(clf, given, tmp_path):
    from xaikit.benchmark.own import Own
    from xaikit.benchmark.run import run as run_suite
    from xaikit.benchmark.suite import Suite

    suite = Suite.of(models=[{"own": True, "name": "mine"}], data={"kind": "synthetic"}, methods=["saliency"])
    with pytest.raises(BadInput, match="engine: expected local"):
        run_suite(suite, tmp_path / "out", engine="ray", own=Own({"mine": clf}))


@pytest.mark.slow
def test_files_are_explained_by_an_own_classifier(clf, folder, tmp_path):
    bound = xaikit.get_method("grad-cam")(clf)
    found = xaikit.explain_files(clf, folder, [bound, "rise"], tmp_path / "out", params={"rise": {"samples": 8}})
    assert (found.done, found.failed, found.interrupted) == (3, 0, False)
    assert [record["method"] for record in found.records] == ["grad-cam", "rise"] * 3
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 6
    again = xaikit.explain_files(clf, [folder / "0.png"], "saliency", tmp_path / "two", view="crop")
    assert again.done == 1
    bare = xaikit.explain_files(clf, folder, "saliency", tmp_path / "bare", pictures=False)
    assert sorted(file.name for file in (tmp_path / "bare").rglob("*")) == ["attributions.npz", "results.json"]
    assert [record["outputs"] for record in bare.records] == [{"values": f"{place}/saliency"} for place in range(3)]
    lines = list[str]()
    drawn = xaikit.explain_files(clf, folder, "saliency", tmp_path / "bare", notice=lines.append)
    assert (drawn.done, len(lines)) == (3, 1)
    assert len(list((tmp_path / "bare" / "panels").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"paths": []}, "expected images"),
        ({"paths": "missing.png"}, r"missing\.png: expected a file or a folder, got nothing there"),
        ({"methods": []}, "methods: expected at least one, got none"),
        ({"params": {"rise": {}}}, "params: expected names among the methods, got 'rise'"),
        ({"value_range": (1,)}, "value_range: expected"),
        ({"classifier": Mine()}, "expected a Classifier, got Mine"),
    ],
)
def test_files_that_cannot_be_explained_are_one_line(clf, folder, tmp_path, arguments, message):
    values = {"classifier": clf, "paths": folder, "methods": "saliency", "output": tmp_path / "out"} | arguments
    with pytest.raises(BadInput, match=message):
        xaikit.explain_files(**values, notice=lambda line: None)


def test_methods_that_no_suite_can_name_are_one_line(clf, given, tmp_path):
    class Ours(type(xaikit.get_method("saliency")(clf))):
        pass

    for method, message in (
        (Ours(clf), "methods: expected a registered method, got Ours"),
        (xaikit.get_method("grad-cam")(clf, layer="features.0"), r"grad-cam: expected the layer .*, got features\.0"),
        (xaikit.get_method("integrated-gradients")(clf, baseline=given[0][0]), "baseline: expected a number or text"),
    ):
        with pytest.raises(BadInput, match=message) as caught:
            xaikit.benchmark({"mine": clf}, given, [method], output=tmp_path / "out")
        assert "\n" not in str(caught.value)
