"""Attributions as figures, pictures and lines of text."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import xaikit
from tests.networks import small
from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.foundation.flags import described
from xaikit.images.overlays import coloured, overlay, saturated, signed_overlay
from xaikit.images.placing import Frame
from xaikit.images.reading import to_picture
from xaikit.model.target import Contrast
from xaikit.run.attribution import Attribution
from xaikit.run.showing import caption, flag_notes

SIDE = 16


@pytest.fixture(scope="module")
def clf() -> xaikit.Classifier:
    return small().eval()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def drawn(figure: Any) -> list[Any]:
    """Return the pictures of a figure without its colour bars."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_a_figure_has_a_row_for_each_image_and_a_column_for_each_method(clf: Any, pixels: torch.Tensor) -> None:
    many = xaikit.attribute_many(clf, pixels, methods=["grad-cam", "saliency"])
    figure = xaikit.plot(many)
    pictures = drawn(figure)
    assert len(pictures) == 9
    for index in range(3):
        factor = pictures[0].shape[0] // SIDE
        small_ones = [picture[factor // 2 :: factor, factor // 2 :: factor] for picture in pictures[3 * index :][:3]]
        np.testing.assert_array_equal(small_ones[0], to_picture(pixels[index]))
        np.testing.assert_array_equal(small_ones[1], np.asarray(many["grad-cam"].overlay(index)))
        np.testing.assert_array_equal(small_ones[2], np.asarray(many["saliency"].overlay(index)))
    assert [text for text in texts(figure) if text in ("input", "grad-cam", "saliency")] == [
        "input",
        "grad-cam",
        "saliency",
    ] * 3
    assert [caption(many["grad-cam"], index) for index in range(3)] == [
        text for text in texts(figure) if text.startswith("class")
    ]


def test_a_map_over_its_image_is_the_heatmap(clf: Any, pixels: torch.Tensor) -> None:
    found = xaikit.attribute(clf, pixels, method="grad-cam")
    heat = saturated(found.numpy()[1])
    expected = overlay(to_picture(pixels[1]), heat)
    assert np.abs(np.asarray(found.overlay(1)).astype(int) - expected).max() <= 1
    jet = np.asarray(found.overlay(1, cmap="jet"))
    assert np.abs(jet.astype(int) - overlay(to_picture(pixels[1]), heat, "jet")).max() <= 1
    with pytest.raises(IndexError):
        found.overlay(3)


def test_signed_maps_diverge_round_zero(clf: Any, pixels: torch.Tensor) -> None:
    for name in ("integrated-gradients", "hires-cam"):
        found = xaikit.attribute(clf, pixels, method=name, **({"steps": 2} if name[0] == "i" else {}))
        assert found.signed
        picture = np.asarray(found.overlay(0))
        values = found.drawable(signed=True)[2]
        assert values is not None
        np.testing.assert_allclose(picture.astype(int), signed_overlay(to_picture(pixels[0]), values), atol=1)
        low, high = [text for text in texts(found[0].plot()) if text.startswith(("against", "for"))]
        assert low.removeprefix("against, -") == high.removeprefix("for, ")


def test_a_shared_scale_makes_images_comparable(pixels: torch.Tensor) -> None:
    values = torch.linspace(0, 1, SIDE * SIDE).reshape(1, SIDE, SIDE) * torch.tensor([1.0, 0.5, 2.0])[:, None, None]
    nobody = torch.zeros(3, dtype=torch.int64)
    found = Attribution(values, nobody, nobody.float(), nobody.float(), "mine", {}, None, (SIDE, SIDE))
    alike = drawn(found.plot())
    np.testing.assert_array_equal(alike[0], alike[1])
    shared = drawn(found.plot(scale="shared"))
    assert shared[1].sum() < shared[0].sum() < shared[2].sum()
    ends = [text for text in texts(found.plot(scale="shared")) if text[0].isdigit()]
    assert len(set(ends)) == 2
    signed = Attribution(-values, nobody, nobody.float(), nobody.float(), "m", {}, None, (SIDE, SIDE), signed=True)
    faint = [picture[:, :, 0].mean() for picture in drawn(signed.plot(scale="shared"))]
    assert faint[1] > faint[0] > faint[2]


def test_the_network_own_answer_is_named_where_it_differs(clf: Any, pixels: torch.Tensor) -> None:
    top = clf(pixels).argmax(1).tolist()
    other = (top[0] + 1) % clf.classes
    found = xaikit.attribute(clf, pixels[:1], other, "saliency")
    shares = clf.probabilities(pixels[:1])[0].tolist()
    assert caption(found, 0) == (
        f"class {other} · {100 * shares[other]:.1f} % "
        f"(the network's answer: class {top[0]} · {100 * shares[top[0]]:.1f} %)"
    )
    same = xaikit.attribute(clf, pixels[:1], top[0], "saliency")
    assert caption(same, 0) == f"class {top[0]} · {100 * shares[top[0]]:.1f} %"
    assert [answer.label for answer in found.answers] == top[:1]


def test_a_callable_and_a_regression_have_a_score(clf: Any, pixels: torch.Tensor) -> None:
    def margin(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 0] - logits[:, 1]

    found = xaikit.attribute(clf, pixels, margin, "saliency")
    assert caption(found, 0).startswith(f"margin · {float(found.scores[0]):.3g} (the network's answer: class")
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = xaikit.Classifier(network, output="regression")
    value = xaikit.attribute(model, pixels, method="saliency")
    assert caption(value, 1) == f"{value.target_names[1]} · {float(value.scores[1]):.3g}"
    against = xaikit.attribute(clf, pixels, Contrast(0, 1), "saliency")
    assert caption(against, 0).startswith("class 0 against class 1 · ")


@pytest.mark.parametrize("name", ["grad-cam", "hires-cam"])
def test_maps_are_drawn_on_the_original_where_the_network_saw_it(clf: Any, pixels: torch.Tensor, name: str) -> None:
    original = np.full((SIDE, 3 * SIDE, 3), 90, np.uint8)
    original[:, SIDE : 2 * SIDE] = to_picture(pixels[0])
    frame = Frame((2 * SIDE, 6 * SIDE), (0.0, 2.0 * SIDE, 2.0 * SIDE, 4.0 * SIDE))  # shown at half its size
    found = xaikit.attribute(clf, pixels[:2], method=name)
    found = replace(found, frames=(frame, None), originals=(original, None))
    seen, shown = np.asarray(found.overlay(0, view="crop")), np.asarray(found.overlay(0))
    np.testing.assert_array_equal(np.asarray(found.overlay(1)), np.asarray(found.overlay(1, view="crop")))
    assert shown.shape == original.shape
    np.testing.assert_array_equal(shown[1:-1, SIDE : 2 * SIDE], seen[1:-1])
    assert shown[:, : SIDE - 1].max() <= 90
    figure = found.plot()
    note = "framed: what the network saw, 33 % of the picture; it did not see the dimmed rest"
    assert note in " ".join(texts(figure))
    sides = [picture.shape[1] / picture.shape[0] for picture in drawn(figure)]
    assert sides == pytest.approx([3, 3, 1, 1], abs=0.02)
    assert "framed" not in " ".join(texts(found.plot(view="crop")))
    with pytest.raises(BadInput, match="view: expected original or crop, got 'whole'"):
        found.overlay(view="whole")  # type: ignore[arg-type]


@pytest.mark.slow
def test_flags_are_told_once_with_what_they_mean(clf: Any, pixels: torch.Tensor) -> None:
    many = xaikit.attribute_many(clf, pixels, methods=["ones", "center", "saliency"])
    (line,) = flag_notes(many)
    assert line == f"ones (3 of 3): {described('constant')}"
    words = " ".join(texts(xaikit.plot(many)))
    assert described("constant").split(". ")[0] in words


@pytest.mark.slow
def test_more_images_than_the_limit_are_counted(clf: Any, pixels: torch.Tensor) -> None:
    found = xaikit.attribute(clf, pixels.repeat(4, 1, 1, 1), method="grad-cam")
    assert len(drawn(found.plot())) == 16
    assert "and 4 more images, which limit= leaves out" in texts(found.plot())
    assert len(drawn(found.plot(limit=12))) == 24


def test_without_its_image_the_heatmap_is_drawn(clf: Any, pixels: torch.Tensor, tmp_path: Path) -> None:
    found = xaikit.attribute(clf, pixels, method="grad-cam")
    found.save(tmp_path / "a.safetensors")
    loaded = Attribution.load(tmp_path / "a.safetensors")
    assert loaded.images is None
    assert (loaded.answers, loaded.model, loaded.signed) == (found.answers, found.model, found.signed)
    assert repr(loaded) == repr(found)
    assert len(drawn(loaded.plot())) == 3
    np.testing.assert_allclose(np.asarray(loaded.overlay(0)).astype(int), coloured(saturated(found.numpy()[0])), atol=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1.0, -2.0])
@pytest.mark.parametrize("signed", [False, True])
def test_maps_that_show_nothing_are_drawn(value: float, signed: bool) -> None:
    nobody = torch.zeros(1, dtype=torch.int64)
    values = torch.full((1, 4, 4), value)
    found = Attribution(values, nobody, nobody.float(), nobody.float(), "m", {}, None, (8, 8), signed=signed)
    assert len(drawn(found.plot())) == 1
    if not signed:
        np.testing.assert_array_equal(np.asarray(found.overlay()), coloured(found.numpy()[0]))


def test_images_are_written(clf: Any, pixels: torch.Tensor, tmp_path: Path) -> None:
    found = xaikit.attribute(clf, pixels, method="grad-cam")
    written = found.save_images(tmp_path / "new")
    names = [f"{index}.grad-cam.{kind}.png" for index in range(3) for kind in ("heatmap", "overlay")]
    assert [path.name for path in written] == names
    for index in range(3):
        with Image.open(written[2 * index]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), coloured(found.numpy()[index]))
        with Image.open(written[2 * index + 1]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(found.overlay(index)))
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput):
        found.save_images(tmp_path / "file")


def test_arrays_are_those_of_the_heatmap(clf: Any, pixels: torch.Tensor) -> None:
    found = xaikit.attribute(clf, pixels, method="grad-cam")
    assert np.asarray(found).shape == (3, SIDE, SIDE)
    assert np.asarray(found[1:2]).shape == (1, SIDE, SIDE)
    np.testing.assert_array_equal(np.asarray(found[1]), found.heatmap()[1].numpy())
    np.testing.assert_array_equal(found.numpy(), found.heatmap().numpy())
    assert np.asarray(found[1][0:1]).shape == (1, SIDE, SIDE)
    assert Attribution.join([found[0], found[2]]).numpy().shape == (2, SIDE, SIDE)
    assert np.asarray(Attribution.join([found[0]])).shape == (1, SIDE, SIDE)
    joined = Attribution.join([found[0], found[2]]).images
    assert joined is not None
    assert torch.equal(joined, pixels[[0, 2]])


def test_a_line_of_text_says_what_it_is(clf: Any, pixels: torch.Tensor) -> None:
    found = xaikit.attribute(clf, pixels, 1, "ones")
    share = 100 * clf.probabilities(pixels)[0, 1]
    first = repr(found[0])
    assert first == f"Attribution({clf.name}; ones; 1 image: class 1 {share:.1f} %; flags constant)"
    for line in (repr(found), repr(found[:0])):
        assert "\n" not in line
        assert len(line) < 200
    assert repr(found[:0]) == f"Attribution({clf.name}; ones; 0 images)"


def test_a_notebook_shows_pictures(clf: Any, pixels: torch.Tensor) -> None:
    found = xaikit.attribute(clf, pixels, method="grad-cam")
    assert 'src="data:image/png;base64,' in found._repr_html_()
    png = found._repr_png_()
    assert png is not None
    assert Image.open(BytesIO(png)).width > 400
    assert found[:0]._repr_png_() is None
    assert "<img" not in found[:0]._repr_html_()
    curve = xaikit.keep_curve(clf, pixels, found)
    assert 'src="data:image/png;base64,' in curve._repr_html_()
    assert repr(curve).startswith("KeepCurve(3 images; soft masks, 11 levels; mean area ")


def test_labels_cannot_write_html(pixels: torch.Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = xaikit.Classifier(network, 0.5, 0.5, labels=["<script>alert(1)</script>", '"onload="x'], name="<b>")
    shown = xaikit.attribute(model, pixels, method="saliency")._repr_html_()
    assert "<script" not in shown
    assert '""' not in shown
    assert "<b>" not in shown


def test_a_curve_is_a_table_and_a_figure(clf: Any, pixels: torch.Tensor) -> None:
    curve = xaikit.keep_curve(clf, pixels, xaikit.attribute(clf, pixels, method="grad-cam"), levels=4)
    table = curve.to_frame()
    assert list(table) == ["image", "threshold", "kept", "y", "o"]
    assert table.shape == (15, 5)
    row = table[(table.image == 1) & (table.threshold == 0.5)].iloc[0]
    assert (row.o, row.kept, row.y) == (float(curve.o[1, 2]), float(curve.kept[1, 2]), float(curve.y[1]))
    (axes,) = curve.plot().axes
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), curve.o.mean(0).numpy())  # type: ignore[arg-type]
    otsu = xaikit.keep_curve(clf, pixels, torch.rand(3, SIDE, SIDE), threshold="otsu", mask="binary")
    with pytest.raises(BadInput, match="plot: expected a curve of several levels"):
        otsu.plot()
    assert "<img" not in otsu._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "global"}, "scale: expected image or shared, got 'global'"),
        ({"view": "whole"}, "view: expected original or crop, got 'whole'"),
        ({"limit": 0}, "limit: expected a whole number from 1, got 0"),
        ({"attributions": []}, "plot: expected attributions, got none"),
        ({"attributions": 3}, "plot: expected attributions, got int"),
        ({"attributions": {"a": torch.rand(2, 2)}}, "plot: expected attributions, got Tensor"),
    ],
)
def test_what_cannot_be_plotted(clf: Any, pixels: torch.Tensor, arguments: dict[str, Any], message: str) -> None:
    given = {"attributions": xaikit.attribute(clf, pixels, method="ones")} | arguments
    with pytest.raises(BadInput, match=message):
        xaikit.plot(**given)


def test_attributions_of_other_images_do_not_share_a_figure(clf: Any, pixels: torch.Tensor) -> None:
    found = xaikit.attribute(clf, pixels, method="ones")
    with pytest.raises(BadInput, match=r"the same images, got \(N, H, W\) of \(2, 16, 16\) and \(3, 16, 16\)"):
        xaikit.plot([found, found[:2]])
    with pytest.raises(BadInput, match="at least one image"):
        found[:0].plot()
    with pytest.raises(UnknownName, match="unknown colour map 'jett'"):
        found.plot(cmap="jett")
    assert {"ones 1", "ones 2"} <= set(texts(xaikit.plot([found, found])))


@pytest.mark.slow
def test_matplotlib_is_imported_when_something_is_drawn_and_pyplot_by_the_user() -> None:
    """In a process of its own: pyplot has state."""
    code = (
        "import sys, xaikit, xaikit.cli.app, xaikit.api, torch\n"
        "att = xaikit.attribute(xaikit.load('texture-cnn', device='cpu'), torch.rand(2, 3, 64, 64))\n"
        "heatmap = att.heatmap()[0].numpy()\n"
        "assert 'matplotlib.figure' not in sys.modules\n"
        "att.plot()\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib; matplotlib.use('agg')\n"
        "import matplotlib.pyplot as plt, numpy as np\n"
        "assert np.array_equal(np.asarray(plt.imshow(att[0]).get_array()), heatmap)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
