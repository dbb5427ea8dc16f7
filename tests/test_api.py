"""The public functions, as a script uses them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import xaikit
from tests.networks import GAPNet, bound, images
from xaikit.run.context import Context


def test_attribute_gives_what_the_method_gives() -> None:
    clf = bound(GAPNet())
    x = images(3)
    found = xaikit.attribute(clf, x, 2, method="occlusion", window=3)
    assert torch.equal(found.values, xaikit.get_method("occlusion").build(clf, window=3).attribute(x, 2).values)
    assert xaikit.attribute(clf, x).method == "grad-cam"
    assert xaikit.attribute(clf, x, layer="conv1").layer == "conv1"


def test_attribute_many_shares_one_pass_and_takes_params_by_name() -> None:
    clf = bound(GAPNet())
    context = Context()
    names, params = ["hires-cam", "grad-cam", "random-grid"], {"random-grid": {"grid": 3}}
    many = xaikit.attribute_many(clf, images(4), methods=names, context=context, params=params)
    assert list(many) == ["hires-cam", "grad-cam", "random-grid"]
    assert (context.counters.forwards, context.counters.backwards) == (4, 4)
    assert many["random-grid"].values.shape == (4, 3, 3)
    with pytest.raises(xaikit.BadInput, match="expected names among the methods, got 'saliency'"):
        xaikit.attribute_many(clf, images(1), params={"saliency": {}})
    with pytest.raises(xaikit.BadInput, match="at least one name"):
        xaikit.attribute_many(clf, images(1), methods=[])


def test_names_are_found_or_refused_with_near_ones() -> None:
    assert "libra-cam" in xaikit.methods()
    assert xaikit.methods(family="control") == ["center", "edges", "fake", "ones", "random", "random-grid"]
    assert "keep-auc" in xaikit.measures()
    assert xaikit.get_measure("api").name == "api"
    with pytest.raises(xaikit.UnknownName, match="did you mean grad-cam"):
        xaikit.attribute(bound(GAPNet()), images(1), method="gradcan")
    with pytest.raises(AttributeError, match="no attribute 'explain_everything'"):
        xaikit.explain_everything  # noqa: B018


@pytest.mark.parametrize(
    "use",
    [
        lambda network: xaikit.attribute(network, images(1)),
        lambda network: xaikit.keep_curve(network, images(1), images(1)[:, 0]),
        lambda network: xaikit.calibrate(network, images(1), images(1)[:, 0]),
        lambda network: xaikit.concepts(network, images(1)),
        lambda network: xaikit.build_library(network, [(images(1), torch.zeros(1, dtype=torch.int64))]),
    ],
)
def test_a_bare_network_is_refused_with_the_remedy(use: Callable[[nn.Module], object]) -> None:
    with pytest.raises(
        xaikit.BadInput, match=r"expected a Classifier, got GAPNet; wrap it: xaikit.Classifier\(model\)"
    ):
        use(GAPNet())


def test_occlusion_of_a_float64_network_takes_float32_images() -> None:
    clf = bound(GAPNet())
    found = xaikit.attribute(clf, images(2).float(), 1, method="occlusion", window=3)
    assert torch.allclose(found.values, xaikit.attribute(clf, images(2), 1, method="occlusion", window=3).values)


def photographs(root: Path, names: list[str], count: int = 6) -> Path:
    """Write `count` pictures of noise into one folder a name."""
    stream = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for place in range(count):
            noise = stream.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / name / f"{place}.png")
    return root


NAMES = ["zebra", "ape"]


def test_build_library_from_a_folder_matches_names_or_order(tmp_path: Path) -> None:
    clf = bound(GAPNet(classes=2), mean=0.0)
    with torch.no_grad():
        clf.network.fc.bias -= clf(images(40)).mean(0)
    named = xaikit.Classifier(clf.network, 0.0, size=8, labels=NAMES)
    folder = photographs(tmp_path / "data", ["ape", "zebra"])
    library = xaikit.build_library(named, folder, references=2)
    batches = [(named.read(sorted((folder / name).iterdir())), torch.full((6,), i)) for i, name in enumerate(NAMES)]
    by_hand = xaikit.build_library(named, batches[::-1], references=2)
    assert torch.equal(library.confidence, by_hand.confidence)
    assert xaikit.build_library(clf, folder, references=2).places.shape == (2, 2)
    photographs(tmp_path / "three", ["a", "b", "c"])
    with pytest.raises(xaikit.BadInput, match="or 2 of them in its order, got 3 such as 'a'"):
        xaikit.build_library(clf, tmp_path / "three")


def test_calibrate_takes_any_methods_maps() -> None:
    clf = bound(GAPNet())
    x = images(2)
    found = xaikit.attribute(clf, x)
    maps, level = xaikit.calibrate(clf, x, found.heatmap(), found.target)
    assert maps.shape == (2, 8, 8)
    assert level.shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["xaikit.measures.removal.keep_curve", "xaikit.api"])
def test_listing_works_whatever_is_imported_first(first: str) -> None:
    """The fast suite holds it for a method, in tests/backends/test_lazy.py."""
    code = f"import {first}, xaikit; assert 'grad-cam' in xaikit.methods() and 'api' in xaikit.measures()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda clf, x: xaikit.attribute(clf, x, method=None), "method: expected a name, got NoneType"),
        (lambda clf, x: xaikit.load(None), "model: expected a name or a folder, got None"),
        (lambda clf, x: xaikit.load(""), "model: expected a name or a folder, got ''"),
        (
            lambda clf, x: xaikit.attribute(clf, x, chunk_size="3"),
            "chunk_size: expected a whole number from 1 or None, got '3'",
        ),
        (lambda clf, x: xaikit.attribute(clf, x, seed="a"), "seed: expected a whole number, got 'a'"),
        (lambda clf, x: xaikit.build_library(clf, [(x, ["a"])]), "labels: expected class indices, got list"),
    ],
)
def test_arguments_of_the_wrong_kind_are_one_line(ask, answer) -> None:
    with pytest.raises(xaikit.BadInput, match=answer):
        ask(bound(GAPNet()), images(1))


def test_an_unknown_family_is_refused_and_one_method_may_be_a_text() -> None:
    with pytest.raises(xaikit.UnknownName, match="unknown family 'activations'; did you mean activation"):
        xaikit.methods(family="activations")
    assert list(xaikit.attribute_many(bound(GAPNet()), images(2), methods="grad-cam")) == ["grad-cam"]
    assert len(xaikit.attribute(bound(GAPNet()), images(2))[1]) == 1
