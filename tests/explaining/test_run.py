"""One run: portions, failures, what is drawn, and memory that does not grow."""

from __future__ import annotations

import importlib
import json
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xaikit.explaining.run import Result, explain
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.flags import described
from xaikit.images.placing import Frame
from xaikit.images.reading import Resize
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

Array = np.ndarray[Any, Any]
PICTURE = np.zeros((2, 2, 3), np.uint8)


class Drawn(list[Any]):
    """A `Draw` that remembers what it was given."""

    def __call__(
        self, picture: Array, maps: Sequence[Any], caption: str, title: str, notes: Sequence[str], frame: Frame | None
    ) -> tuple[Any, dict[str, Any]]:
        self.append((picture, maps, caption, title, notes, frame))
        return PICTURE, {method: PICTURE for method, *_ in maps}


def network(channels: int = 3, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def classifier(**options: Any) -> Classifier:
    with torch.random.fork_rng():
        return Classifier(network(options.get("channels", 3), options.pop("classes", 4)), **{"mean": 0.0, **options})


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number:02}.png" for number in range(20)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return paths


def run(model: Classifier, paths: Sequence[Path], output: Path, *names: str, **options: Any) -> tuple[Result, Drawn]:
    draw = Drawn()
    files: Iterator[tuple[Path, XaikitError | None]] = ((path, None) for path in paths)
    methods = [METHODS.get(name)(model) for name in names or ("grad-cam",)]
    return explain(files, methods, output, draw, **options), draw


def test_portions_do_not_change_order_or_values(images: list[Path], tmp_path: Path) -> None:
    model = classifier(size=8)
    result, _ = run(model, images, tmp_path / "all")
    assert [Path(record["file"]).name for record in result.records] == [path.name for path in images]
    run(model, images[:1], tmp_path / "one")
    with np.load(tmp_path / "all" / "attributions.npz") as many, np.load(tmp_path / "one" / "attributions.npz") as one:
        np.testing.assert_allclose(many["00/grad-cam"], one["00/grad-cam"], atol=1e-6)


def test_native_sizes_go_together_only_with_equals(tmp_path: Path) -> None:
    paths = []
    for number, size in enumerate([(8, 8), (8, 8), (12, 6), (8, 8)]):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", size, (40 * number, 90, 200)).save(paths[-1])
    result, draw = run(classifier(), paths, tmp_path / "out")
    assert result.done == 4
    assert [picture.shape for picture, *_ in draw] == [(8, 8, 3), (8, 8, 3), (6, 12, 3), (8, 8, 3)]


def test_records_tell_what_the_network_saw_of_the_upright_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 12), (40, 90, 200))
    rotated = picture.getexif()
    rotated[0x0112] = 6  # a camera held upright
    picture.save(tmp_path / "tall.png", exif=rotated)
    result, _ = run(classifier(size=8, resize=Resize("crop", (8, 8), 8)), [tmp_path / "tall.png"], tmp_path / "crop")
    assert result.records[0]["original_size"] == [30, 12]
    assert result.records[0]["box"] == [9.0, 0.0, 21.0, 12.0]
    saved = json.loads((tmp_path / "crop" / "results.json").read_text(encoding="utf-8"))
    assert saved["records"][0]["box"] == [9.0, 0.0, 21.0, 12.0]
    whole, _ = run(classifier(size=8), [tmp_path / "tall.png"], tmp_path / "whole")
    assert whole.records[0]["box"] == [0.0, 0.0, 30.0, 12.0]


def test_the_original_is_drawn_unless_the_crop_is_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 400), (40, 90, 200)).save(tmp_path / "wide.png")
    model = classifier(size=8, resize=Resize("crop", (8, 8), 8))
    _, (original,) = run(model, [tmp_path / "wide.png"], tmp_path / "out")
    assert original[0].shape == (341, 1024, 3)
    assert original[1][0][1].shape == (8, 8)
    assert original[4][:1] == ["framed: what the network saw, 33 % of the picture; it did not see the dimmed rest"]
    assert original[5] == Frame((400, 1200), (0.0, 400.0, 400.0, 800.0))
    _, (crop,) = run(model, [tmp_path / "wide.png"], tmp_path / "out", view="crop")
    assert crop[0].shape == (8, 8, 3)
    assert (crop[4], crop[5]) == (original[4][1:], None)


def test_seconds_add_up_to_the_time_of_the_attribution(images: list[Path], tmp_path: Path) -> None:
    result, _ = run(classifier(size=8), images, tmp_path / "out", "grad-cam", "saliency")
    assert 0 < sum(record["seconds"] for record in result.records) <= result.run["seconds"]


def test_what_is_drawn(images: list[Path], tmp_path: Path) -> None:
    model = classifier(size=8, labels=["ant", "bee", "cat", "dog"])
    _, draw = run(model, images[:1], tmp_path / "out", "grad-cam", "saliency", "occlusion", target="cat")
    picture, maps, caption, title, notes, _ = draw[0]
    np.testing.assert_array_equal(picture, np.asarray(Image.open(images[0]).convert("RGB")))
    assert caption.startswith("cat · ")
    assert caption.endswith(" %)")
    assert "(the network's answer: dog · " in caption
    assert title == "00.png"
    assert notes == []
    _, draw = run(model, images[:1], tmp_path / "flagged", "saliency", "ones")
    assert draw[0][4] == [f"ones: {described('constant')}"]
    assert [(method, heat.shape, signed) for method, heat, _, signed in maps] == [
        ("grad-cam", (8, 8), False),
        ("saliency", (8, 8), False),
        ("occlusion", (8, 8), True),
    ]
    assert all(0 <= heat.min() <= heat.max() <= 1 for _, heat, _, _ in maps)
    assert [values is not None for _, _, values, _ in maps][1:] == [True, True]


def test_grey_and_many_channel_inputs_have_a_picture(images: list[Path], tmp_path: Path) -> None:
    _, draw = run(classifier(size=8, channels=1), images[:1], tmp_path / "out")
    assert draw[0][0].shape == (8, 8, 3)


def test_a_regression_has_no_probability(images: list[Path], tmp_path: Path) -> None:
    model = classifier(size=8, output="regression", classes=1)
    result, draw = run(model, images[:1], tmp_path / "out", "saliency", target=0)
    assert result.records[0]["probability"] is None
    assert "%" not in draw[0][2]


def test_a_refusal_that_holds_for_all_images_is_the_requests(images: list[Path], tmp_path: Path) -> None:
    broken = nn.Sequential(network(), nn.Threshold(1e9, float("nan")))
    notices: list[str] = []
    with pytest.raises(BadInput, match="NaN"):
        run(Classifier(broken, 0.0, size=8), images[:16], tmp_path / "out", notice=notices.append)
    assert notices == []
    with pytest.raises(BadInput, match="NaN"):
        run(Classifier(broken, 0.0, size=8), images, tmp_path / "out", notice=notices.append)
    assert len(notices) == 1
    assert notices[0].startswith("the first 16 pictures fail alike")
    assert not (tmp_path / "out" / "results.json").exists()


class Brittle(nn.Module):
    """Gives NaN for dark pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dark = x.flatten(1).amax(1, keepdim=True) == 0
        logits: torch.Tensor = self.body(x).masked_fill(dark, float("nan"))
        return logits


@pytest.mark.parametrize("order", ["bad first", "good first", "mixed"])
def test_failures_do_not_depend_on_the_order_of_the_files(images: list[Path], tmp_path: Path, order: str) -> None:
    dark = [tmp_path / f"dark{number:02}.png" for number in range(20)]
    for path in dark:
        Image.new("RGB", (8, 8)).save(path)
    both = [*images, *dark]
    paths = {"good first": both, "bad first": both[::-1], "mixed": sorted(both, key=lambda path: path.stem[-2:])}[order]
    with torch.random.fork_rng():
        model = Classifier(Brittle(), 0.0, size=8)
    result, _ = run(model, paths, tmp_path / "out")
    assert (result.done, result.failed) == (20, 20)
    assert [Path(one["file"]).name for one in result.records] == [path.name for path in paths]
    assert all(("error" in one) == Path(one["file"]).name.startswith("dark") for one in result.records)


def test_a_target_that_does_not_fit_is_refused_before_anything_is_written(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="from 0 to 3"):
        run(classifier(size=8), images, tmp_path / "out", target=4)
    assert not (tmp_path / "out").exists()


def test_progress_and_notices(images: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    notices: list[str] = []
    images[3].write_bytes(b"")

    def progress(done: int, total: int, unit: str) -> None:
        if unit == "images":
            told.append((done, total))

    result, _ = run(
        classifier(size=8), images, tmp_path / "out", context=Context(progress=progress), notice=notices.append
    )
    assert told == [(0, 20), (16, 20), (20, 20)]
    assert (result.done, result.failed) == (19, 1)
    assert len(notices) == 1
    assert notices[0].startswith(str(images[3]))


def test_the_network_comes_back_untouched(images: list[Path], tmp_path: Path) -> None:
    model = classifier(size=8).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run(model, images[:2], tmp_path / "out", "grad-cam", "saliency")
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_maps_are_given_up_portion_by_portion(images: list[Path], tmp_path: Path) -> None:
    model = classifier(size=8)
    alive: list[weakref.ref[Array]] = []
    most = 0

    def draw(
        picture: Array, maps: Sequence[Any], caption: str, title: str, notes: Sequence[str], frame: Frame | None
    ) -> tuple[Any, dict[str, Any]]:
        nonlocal most
        alive.extend(weakref.ref(array) for _, heat, values, _ in maps for array in (heat, values) if array is not None)
        most = max(most, sum(reference() is not None for reference in alive))
        return PICTURE, {method: PICTURE for method, *_ in maps}

    files = [(path, None) for path in images * 3]
    explain(files, [METHODS.get(name)(model) for name in ("grad-cam", "saliency")], tmp_path / "out", draw)
    assert len(alive) >= 3 * 60
    assert most <= 2 * 2 * 2  # of the image that is drawn and the one before it


def test_an_interrupt_of_a_slow_method_keeps_what_is_done(images: list[Path], tmp_path: Path) -> None:
    files = [(path, None) for path in images[:4]]
    slow = METHODS.get("integrated-gradients")(classifier(size=8), steps=800)
    done = 0

    def draw(
        picture: Array, maps: Sequence[Any], caption: str, title: str, notes: Sequence[str], frame: Frame | None
    ) -> tuple[Any, dict[str, Any]]:
        nonlocal done
        done += 1
        return PICTURE, {method: PICTURE for method, *_ in maps}

    def progress(count: int, total: int, unit: str) -> None:
        if unit != "images" and done == 2:
            raise KeyboardInterrupt

    result = explain(files, [slow], tmp_path / "out", draw, context=Context(progress=progress))
    assert result.interrupted
    assert result.done == done == 2


class Killed(BaseException):
    """Ends a run as SIGKILL does."""


@pytest.mark.parametrize("count", [1, 7, 18])
def test_a_killed_run_continues_with_the_same_values(images: list[Path], tmp_path: Path, count: int) -> None:
    names = ("grad-cam", "random")
    files = [(path, None) for path in images]
    drawn = 0

    def draw(
        picture: Array, maps: Sequence[Any], caption: str, title: str, notes: Sequence[str], frame: Frame | None
    ) -> tuple[Any, dict[str, Any]]:
        nonlocal drawn
        drawn += 1
        if drawn == count + 1:
            raise Killed
        return PICTURE, {method: PICTURE for method, *_ in maps}

    model = classifier(size=8)
    with pytest.raises(Killed):
        explain(files, [METHODS.get(name)(model) for name in names], tmp_path / "out", draw)
    notices: list[str] = []
    result, again = run(classifier(size=8), images, tmp_path / "out", *names, notice=notices.append)
    assert len(again) == 20 - count
    assert result.done == 20
    assert notices == [f"{count} of 20 pictures are explained already and are kept"]
    run(model, images, tmp_path / "whole", *names)
    with np.load(tmp_path / "out" / "attributions.npz") as one, np.load(tmp_path / "whole" / "attributions.npz") as two:
        assert one.files == two.files
        for key in one.files:
            np.testing.assert_allclose(one[key], two[key], atol=1e-6)


def test_changed_weights_are_another_request(images: list[Path], tmp_path: Path) -> None:
    model = classifier(size=8)
    run(model, images[:2], tmp_path / "out")
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    _, draw = run(model, images[:2], tmp_path / "out")
    assert len(draw) == 2
    assert (tmp_path / "out" / "earlier" / "1" / "results.json").is_file()


def test_a_changed_constant_that_a_methods_module_imports_is_another_request(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("from mine_sign import SIGN\n", encoding="utf-8")
    drawn = []
    for sign in (1, 2, 2):
        (tmp_path / "mine_sign.py").write_text(f"SIGN = {sign}.0\n", encoding="utf-8")
        for name in ("mine_sign", "mine"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        importlib.import_module("mine")
        mine = type("Mine", (METHODS.get("saliency"),), {"__module__": "mine"})
        draw = Drawn()
        explain([(images[0], None)], [mine(classifier(size=8))], tmp_path / "out", draw)
        drawn.append(len(draw))
    assert drawn == [1, 1, 0]


def test_a_library_of_equal_names_and_other_content_is_another_request(images: list[Path], tmp_path: Path) -> None:
    from dataclasses import replace

    from xaikit.methods.activation.reference_library import Library

    model = classifier(size=8)
    places, confidence = torch.tensor([[0, 1]] * 4), torch.zeros(4, 2, dtype=torch.float64)
    with torch.random.fork_rng():
        library = Library(torch.rand(2, 4, 8, 8), places, confidence, model.fingerprint, model.layer)
    other = replace(library, activations=library.activations + 1)
    assert library.fingerprint == other.fingerprint  # it identifies the confidences
    for content, drawn in ((library, 1), (library, 0), (other, 1)):
        draw = Drawn()
        explain([(images[0], None)], [METHODS.get("libra-cam")(model, library=content)], tmp_path / "out", draw)
        assert len(draw) == drawn


def test_a_plain_function_is_never_continued(images: list[Path], tmp_path: Path) -> None:
    for number in range(2):
        box = Classifier.from_function(lambda x, number=number: np.full((len(x), 2), 0.5), size=8)  # type: ignore[misc]
        _, draw = run(box, images[:1], tmp_path / "out", "center")
        assert len(draw) == 1
