"""A function instead of a network: what it may give, who may explain it, and what is said when it misbehaves."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xaikit
from tests.networks import DeepNet, bound, images
from xaikit.explaining.run import explain
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

NETWORK = bound(DeepNet())
BLACK_BOX = ("feature-ablation", "kernel-shap", "lime", "occlusion", "partition-shap", "rise")
SMALL: dict[str, dict[str, Any]] = {
    "rise": {"samples": 20},
    "lime": {"samples": 20, "segments": 4},
    "kernel-shap": {"segments": 4},
    "partition-shap": {"samples": 20},
}


def probabilities(pixels: np.ndarray) -> np.ndarray:
    """DeepNet's probabilities, as a remote service would give them."""
    assert isinstance(pixels, np.ndarray)
    assert pixels.dtype == np.float32
    return NETWORK.probabilities(torch.from_numpy(pixels).double()).detach().numpy()


def logits(pixels: torch.Tensor) -> torch.Tensor:
    return NETWORK(pixels.double()).detach()


def box(function: Callable[[Any], Any] = probabilities, **options: Any) -> Classifier:
    return Classifier.from_function(function, size=8, **{"mean": 0.0} | options)


@pytest.mark.parametrize("name", BLACK_BOX)
def test_a_function_is_explained_as_its_network_is(name: str) -> None:
    """Up to float32, which the function is given; its logits are the network's up to a constant an image."""
    x = images(3).float().double()
    options = SMALL.get(name, {}) | ({} if name == "rise" else {"score": "probability"})
    expected = METHODS.get(name).build(NETWORK, **options).attribute(x, 1)
    for clf in (box(), box(logits, gives="logits", takes="torch")):
        found = METHODS.get(name).build(clf, **options).attribute(x, 1)
        assert torch.allclose(found.probabilities, expected.probabilities, atol=1e-6)
        assert torch.allclose(found.values, expected.values, atol=1e-6)


def test_its_heads() -> None:
    x = images(2)
    p = NETWORK.probabilities(x).detach()
    assert torch.allclose(box().probabilities(x), p, atol=1e-6)
    assert torch.allclose(box(output="sigmoid").probabilities(x), p, atol=1e-6)
    binary = box(lambda pixels: probabilities(pixels)[:, 0], output="binary")
    assert torch.allclose(binary.probabilities(x)[:, 1], p[:, 0], atol=1e-6)
    assert binary.labels == ["negative", "positive"]
    values = box(lambda pixels: 7 * probabilities(pixels) - 3, output="regression")
    assert torch.allclose(values(x), 7 * p - 3, atol=1e-5)


def test_probabilities_of_zero_and_one_are_explained() -> None:
    def sure(pixels: np.ndarray) -> np.ndarray:
        bright = pixels.mean((1, 2, 3)) > 0.25
        return np.stack([bright, ~bright], 1).astype(np.float32)

    found = xaikit.attribute(box(sure, labels=["bright", "dark"]), images(2), "bright", method="rise", samples=50)
    assert found.values.isfinite().all()
    assert torch.equal(found.probabilities, torch.ones(2))


def test_it_says_what_it_is() -> None:
    clf = box(labels=list("abcd"), name="service")
    assert (clf.name, clf.labels, clf.classes) == ("service", list("abcd"), 4)
    assert box().name == "probabilities"
    assert clf.fingerprint != box(lambda pixels: probabilities(pixels)).fingerprint
    assert clf.fingerprint == box(labels=list("abcd")).fingerprint
    assert copy.deepcopy(clf).module.function is probabilities


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS.get(name).family != "control"])
def test_methods_that_need_a_network_refuse_it(name: str) -> None:
    needs = METHODS.get(name).needs
    if not {"activations", "attention", "gradients", "input-gradient", "library"} & needs:
        found = METHODS.get(name).build(box(), **SMALL.get(name, {})).attribute(images(1))
        assert found.values.shape == (1, 8, 8)
        return
    message = r"expected a network with (layers|gradients|parameters), got (the function )?probabilities"
    with pytest.raises(BadInput, match=message):
        METHODS.get(name).build(box()).attribute(images(1))


@pytest.mark.parametrize(
    ("function", "options", "line"),
    [
        (lambda p: 9 * probabilities(p) - 4, {}, r"expected probabilities in \[0, 1\], got .*; use gives='logits'"),
        (lambda p: probabilities(p) / 2, {}, "expected probabilities that sum to 1, got 0.5; use output='sigmoid'"),
        (lambda p: probabilities(p)[0], {}, r"expected \(1, K\) for 1 images, got \(4,\); return one row per image"),
        (lambda p: probabilities(p)[..., None], {}, r"got \(1, 4, 1\); return one row"),
        (lambda p: np.full((len(p), 4), np.nan), {}, "expected finite probabilities, got NaN or infinity"),
        (lambda p: "dog", {}, "expected an array or a tensor .*, got str; return numbers"),
        (lambda p: {"dog": 1.0}, {}, "got dict; return numbers"),
        (lambda p: torch.ones(len(p), 4, dtype=torch.int64), {}, "got torch.int64"),
        (lambda p: 1 / 0, {}, "got ZeroDivisionError: division by zero"),
        (probabilities, {"gives": "scores"}, "gives: expected probabilities or logits, got 'scores'"),
        (probabilities, {"takes": "jax"}, "takes: expected numpy or torch, got 'jax'"),
        (probabilities, {"output": "soft"}, "output: expected one of softmax"),
        (probabilities, {"mean": [0.5, 0.5]}, "mean: expected 3 numbers"),
        (probabilities, {"labels": ["a"]}, "labels: expected 4, one per class, got 1"),
        ("service", {}, "function: expected a callable, got str"),
        (DeepNet(), {}, r"got a torch module; use xaikit.Classifier\(module\)"),
    ],
)
def test_what_misbehaves_is_one_clear_line(function: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput, match=line) as caught:
        box(function, **options).probabilities(images(1))
    assert "\n" not in str(caught.value)


def test_one_image_on_which_it_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """It gives NaN wherever the first pixel is pure red, masked or not."""

    def moody(pixels: np.ndarray) -> np.ndarray:
        found = probabilities(pixels)
        found[(pixels[:, 0, 0, 0] > 0.99) & (pixels[:, 1, 0, 0] < 0.01)] = np.nan
        return found

    files = []
    for place, picture in enumerate((images(3) * 200).byte().permute(0, 2, 3, 1).numpy()):
        if place == 1:
            picture[0, 0] = 255, 0, 0
        files.append(tmp_path / f"{place}.png")
        Image.fromarray(picture).save(files[-1])

    def draw(*_: Any) -> tuple[Any, dict[str, Any]]:
        return np.zeros((4, 4, 3), np.uint8), {"lime": np.zeros((4, 4, 3), np.uint8)}

    notices: list[str] = []
    lime = METHODS.get("lime").build(box(moody), **SMALL["lime"])
    done = explain([(file, None) for file in files], [lime], tmp_path / "out", draw, notice=notices.append)
    assert (done.done, done.failed) == (2, 1)
    assert re.search(r"1\.png: .*expected finite probabilities, got NaN", notices[0])
