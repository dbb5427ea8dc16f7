"""Bad input to `xaikit explain`: one clear line, the right exit code, and the other inputs done."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import Command, draw
from xaikit.foundation.files import package_data


def text(path: Path) -> None:
    path.write_text("no picture", encoding="utf-8")


def truncated(path: Path) -> None:
    draw(path, side=256)
    path.write_bytes(path.read_bytes()[:2000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


BROKEN: list[Callable[[Path], None]] = [text, truncated, empty]


def records(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["records"]


@pytest.mark.parametrize("make", BROKEN)
def test_broken_file_alone(explain: Command, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "broken.jpg")
    done = explain(tmp_path / "broken.jpg")
    assert done.code == 2
    assert "broken.jpg" in done.line


@pytest.mark.parametrize("make", BROKEN)
def test_broken_file_among_good_ones(
    explain: Command, photo: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "broken.jpg")
    other = draw(tmp_path / "other.png", 1)
    done = explain(photo, tmp_path / "broken.jpg", other)
    assert done.code == 1
    assert "broken.jpg" in done.line
    first, failed, last = records(tmp_path)
    assert "method" not in failed
    assert "broken.jpg" in failed["error"]
    assert [Path(one["file"]).name for one in (first, last)] == [photo.name, other.name]


def test_missing_path(explain: Command, photo: Path, tmp_path: Path) -> None:
    done = explain(tmp_path / "nope.png")
    assert (done.code, "nope.png" in done.line) == (2, True)
    done = explain(tmp_path / "nope.png", photo)
    assert (done.code, "nope.png" in done.line) == (1, True)
    assert len(records(tmp_path)) == 2


def test_empty_folder(explain: Command, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    done = explain(tmp_path / "album")
    assert (done.code, "album" in done.line) == (2, True)
    done = explain(tmp_path / "album", photo)
    assert (done.code, "album" in done.line) == (1, True)


def test_two_missing_paths_are_one_line(explain: Command, tmp_path: Path) -> None:
    done = explain(tmp_path / "nope.png", tmp_path / "nada.png")
    assert done.code == 2
    assert "1 more" in done.line


def test_decompression_bomb(explain: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    draw(tmp_path / "bomb.png", side=128)
    done = explain(tmp_path / "bomb.png", photo)
    assert done.code == 1
    assert "bomb.png" in done.line
    assert "pixels" in done.line


def test_no_permission(explain: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = draw(tmp_path / "locked.png")
    opened = Path.open

    def refuses(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == locked:  # as chmod 0 does, but also to root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuses)
    done = explain(locked, photo)
    assert done.code == 1
    assert "locked.png" in done.line
    assert "permission" in done.line.lower()


def sixteen_bit(path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)).save(path)


def mode(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        Image.open(draw(path.with_suffix(".source.png"))).convert(name).save(path)

    make.__name__ = name
    return make


def rotated(path: Path) -> None:
    image = Image.open(draw(path.with_suffix(".source.png"))).crop((0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)


def animated(path: Path) -> None:
    frames = [Image.open(draw(path.with_suffix(f".{number}.png"), number)) for number in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def tiny(path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(path)


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (sixteen_bit, ".png"),
        (mode("CMYK"), ".jpg"),
        (mode("L"), ".png"),
        (mode("P"), ".gif"),
        (mode("RGBA"), ".png"),
        (rotated, ".jpg"),
        (animated, ".gif"),
        (tiny, ".png"),
    ],
)
def test_unusual_pictures_work(explain: Command, tmp_path: Path, make: Callable[[Path], None], suffix: str) -> None:
    make(tmp_path / f"picture{suffix}")
    done = explain(tmp_path / f"picture{suffix}")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--method", "grad-camm"], "grad-cam"),
        (["--layer", "features.1l"], "features.1"),
        (["--param", "windw=3", "--method", "occlusion"], "window"),
        (["--param", "steps=3"], "steps"),
        (["--param", "occlusion.window=3"], "occlusion"),
        (["--param", "window", "--method", "occlusion"], "key=value"),
        (["--param", "window=wide", "--method", "occlusion"], "window"),
        (["--param", "score=odds", "--method", "occlusion"], "score"),
        (["--target", "6"], "from 0 to 5"),
        (["--target", "-1"], "from 0 to 5"),
        (["--target", "dotz"], "dots"),
        (["--target", "stripes"], "matches 2 labels"),
        (["--library", "nothing.safetensors"], "libra-cam"),
        (["--library", "nothing.safetensors", "--method", "libra-cam"], "no such file"),
        (["--plugin", "nothing.py"], "nothing.py"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--seed", "many"], "--seed"),
        (["--sead", "1"], "--seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_requests(explain: Command, photo: Path, tmp_path: Path, options: list[str], expected: str) -> None:
    done = explain(photo, *options)
    assert done.code == 2
    assert expected in done.line
    assert not (tmp_path / "out" / "results.json").exists()


def test_unknown_model(run: Command, photo: Path, tmp_path: Path) -> None:
    done = run("explain", photo, "--model", "texture-cn", "-o", tmp_path / "out")
    assert done.code == 2
    assert "texture-cnn" in done.line


def other_architecture(path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2, 3, 3, 3)}, path)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 0",)


def with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": _Code()}))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (other_architecture, "features.0.weight"),
        (with_code, "could run code"),
        (text, "weights file"),
        (empty, "empty"),
    ],
)
def test_wrong_weights(
    explain: Command, photo: Path, tmp_path: Path, make: Callable[[Path], None], expected: str
) -> None:
    make(tmp_path / "weights.pth")
    done = explain(photo, "--weights", tmp_path / "weights.pth")
    assert done.code == 2
    assert expected in done.line


def test_a_model_that_gives_nan_is_one_line(explain: Command, photo: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(package_data("models/texture-cnn") / "weights.safetensors")
    name = next(name for name in reversed(state) if state[name].is_floating_point())
    save_file(state | {name: torch.full_like(state[name], float("nan"))}, tmp_path / "nan.safetensors")
    other = draw(tmp_path / "other.png", 1)
    done = explain(photo, other, "--weights", tmp_path / "nan.safetensors")
    assert done.code == 2
    assert "NaN" in done.line


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_output_that_cannot_be_written(run: Command, photo: Path, inside: str) -> None:
    done = run("explain", photo, "--model", "texture-cnn", "-o", photo / inside)
    assert done.code == 2
    assert "-o" in done.line


def test_one_image_that_breaks_a_method_leaves_the_others(
    explain: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xaikit.methods.activation.grad_cam import GradCAM
    from xaikit.methods.base import Values
    from xaikit.run.batch import Batch

    compute = GradCAM.compute
    Image.new("RGB", (64, 64), "black").save(tmp_path / "black.png")

    def breaks(self: GradCAM, batch: Batch) -> Values:
        if bool((batch.pixels.flatten(1).amax(1) == 0).any()):
            raise RuntimeError("too dark\nmore about it")
        return compute(self, batch)

    monkeypatch.setattr(GradCAM, "compute", breaks)
    done = explain(photo, tmp_path / "black.png", draw(tmp_path / "other.png", 1))
    assert done.code == 1
    assert done.line.endswith("black.png: RuntimeError: too dark")
    assert [one.get("method") for one in records(tmp_path)] == ["grad-cam", None, "grad-cam"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_what_is_finished_whole_and_the_same_run_continues(
    explain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    for place in range(4):
        draw(tmp_path / "album" / f"{place}.png", place)
    from xaikit.images.reading import save_png

    saved = []

    def interrupted(path: Path, picture: np.ndarray[Any, Any]) -> None:
        save_png(path, picture)
        saved.append(path)
        if len(saved) == 3:  # the panel of the second image: its overlay and values must still follow
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr("xaikit.explaining.results.save_png", interrupted)
        done = explain(tmp_path / "album")
    assert done.code == 130
    assert done.line == "xaikit: interrupted"
    assert "2 of 4 images" in done.out
    written = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert written["run"]["interrupted"] is True
    with np.load(tmp_path / "out" / "attributions.npz") as values:
        assert sorted(values.files) == ["0/grad-cam", "1/grad-cam"]
    for one in written["records"]:
        assert (tmp_path / "out" / one["outputs"]["overlay"]).is_file()
    assert [one["outputs"]["values"] for one in written["records"]] == ["0/grad-cam", "1/grad-cam"]
    done = explain(tmp_path / "album")
    assert done.code == 0
    assert done.line == "xaikit: 2 of 4 pictures are explained already and are kept"
    assert records(tmp_path)[:2] == written["records"]
    assert [one["outputs"]["values"] for one in records(tmp_path)] == [f"{place}/grad-cam" for place in range(4)]


def test_a_full_disk_costs_the_image_at_hand(explain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in range(4):
        draw(tmp_path / "album" / f"{place}.png", place)
    flush, flushed = os.fsync, []

    def full(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) > 8:  # run.json, and for each image a panel, an overlay and its values
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = explain(tmp_path / "album")
    assert done.code == 2
    assert "No space left on device" in done.line
    assert "2 images are kept" in done.line
    done = explain(tmp_path / "album")
    assert done.code == 0
    assert done.line == "xaikit: 2 of 4 pictures are explained already and are kept"
    with np.load(tmp_path / "out" / "attributions.npz") as values:
        assert values.files == [f"{place}/grad-cam" for place in range(4)]


def test_a_header_that_lies_about_the_size(explain: Command, photo: Path, tmp_path: Path) -> None:
    good = draw(tmp_path / "lies.png").read_bytes()
    (tmp_path / "lies.png").write_bytes(good[:16] + struct.pack(">II", 60000, 60000) + good[24:])
    done = explain(tmp_path / "lies.png", photo)
    assert done.code == 1
    assert "lies.png" in done.line
