"""What people type who come from other packages: names, keywords, lists of layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.utils import save_image

import xaikit
from tests.cli.conftest import draw
from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.images.synthetic import CLASSES
from xaikit.images.synthetic import draw as draw_scene
from xaikit.measures.base import MEASURES
from xaikit.methods.base import METHODS

NAMES = {
    "GradCAM": "grad-cam",
    "gradcam": "grad-cam",
    "Grad_CAM": "grad-cam",
    "grad-cam++": "grad-cam-plus-plus",
    "GradCAMPlusPlus": "grad-cam-plus-plus",
    "GradCAMpp": "grad-cam-plus-plus",
    "IG": "integrated-gradients",
    "IntegratedGradients": "integrated-gradients",
    "shap": "kernel-shap",
    "KernelShap": "kernel-shap",
    "GradientShap": "expected-gradients",
    "HiResCAM": "hires-cam",
    "VanillaGradients": "saliency",
}
KEYWORDS = [
    ("grad-cam", "targets", "target="),
    ("grad-cam", "target_layers", "layer="),
    ("integrated-gradients", "baselines", "baseline="),
    ("expected-gradients", "baselines", "references="),
    ("occlusion", "baselines", "fill="),
    ("integrated-gradients", "n_steps", "steps="),
    ("integrated-gradients", "internal_batch_size", "chunk_size="),
    ("occlusion", "sliding_window_shapes", "window="),
    ("integrated-gradients", "return_convergence_delta", "the result's .completeness"),
    ("rise", "show_progress", "progress="),
    ("rise", "s_batch", "masks= of xaikit.measure"),
]


@pytest.fixture(scope="module")
def clf() -> xaikit.Classifier:
    return xaikit.load("texture-cnn", device="cpu")


@pytest.mark.parametrize(("name", "meant"), NAMES.items())
def test_a_name_in_another_spelling(name: str, meant: str) -> None:
    assert xaikit.get_method(name).name == meant


def test_aliases_lead_to_entries_and_are_no_names() -> None:
    for registry in (METHODS, MEASURES):
        names = registry.names()
        assert registry.aliases
        for alias, name in registry.aliases.items():
            assert name in names
            assert registry.get(alias).name == name  # type: ignore[attr-defined]


def test_names_differ_in_more_than_spelling() -> None:
    for registry in (METHODS, MEASURES):
        plain = [name.replace("-", "") for name in registry.names()]
        assert len(set(plain)) == len(plain)


def test_shap_is_never_taken_for_rap() -> None:
    for name in ("shapp", "shap-values", "tree-shap"):
        with pytest.raises(UnknownName) as caught:
            xaikit.get_method(name)
        assert "kernel-shap" in str(caught.value)
        assert " rap" not in str(caught.value)


def test_many_methods_are_named_as_they_were_asked(clf: xaikit.Classifier) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    many = xaikit.attribute_many(clf, pixels, methods=["GradCAM", "ig"], params={"ig": {"steps": 3}})
    assert [(name, found.method) for name, found in many.items()] == [
        ("GradCAM", "grad-cam"),
        ("ig", "integrated-gradients"),
    ]
    assert many["ig"].params["steps"] == 3


@pytest.mark.parametrize(("method", "keyword", "ours"), KEYWORDS)
def test_a_keyword_of_another_package(clf: xaikit.Classifier, method: str, keyword: str, ours: str) -> None:
    with pytest.raises(BadInput) as caught:
        xaikit.attribute(clf, torch.rand(1, 3, 64, 64), method=method, **{keyword: 1})
    assert str(caught.value) == f"{method}: expected a keyword of xaikit, got {keyword!r}; use {ours}"


def test_several_layers_are_fused_whatever_their_order(clf: xaikit.Classifier) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    named = xaikit.attribute(clf, pixels, method="layer-cam", layer="features.11", shallower="features.4")
    for layers in (["features.4", "features.11"], ["features.11", clf.network.features[4]]):
        found = xaikit.attribute(clf, pixels, method="layer-cam", layer=layers)  # type: ignore[arg-type]
        assert torch.equal(found.values, named.values)
        assert (found.layer, found.params["shallower"]) == ("features.11", ("features.4",))
    one = xaikit.attribute(clf, pixels, method="grad-cam", layer=["features.4"])
    assert torch.equal(one.values, xaikit.attribute(clf, pixels, method="grad-cam", layer="features.4").values)


def test_several_layers_of_a_classifier_are_fused_where_a_method_does(clf: xaikit.Classifier) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    both = xaikit.Classifier(clf.network, clf.mean.flatten(), clf.std.flatten(), layer=["features.4", "features.11"])
    for method, layers in (("layer-cam", ["features.4", "features.11"]), ("grad-cam", ["features.11"])):
        named = xaikit.attribute(clf, pixels, method=method, layer=layers)
        assert torch.equal(xaikit.attribute(both, pixels, method=method).values, named.values)
        one = xaikit.attribute(both, pixels, method=method, layer="features.4")
        assert torch.equal(one.values, xaikit.attribute(clf, pixels, method=method, layer="features.4").values)
    with pytest.raises(xaikit.NoSuchLayer, match=r"features\.99"):
        xaikit.Classifier(clf.network, layer=["features.4", "features.99"])


@pytest.mark.parametrize(
    ("method", "layers", "message"),
    [
        ("grad-cam", ["features.4", "features.11"], "layer: expected one, grad-cam reads one, got 2; layer-cam fuses"),
        ("grad-cam", [], "expected one, grad-cam reads one, got 0"),
        ("layer-cam", [], "expected different layers among classifier.layers.., got none"),
        ("layer-cam", ["features.4", "features.4"], "expected different layers .* got features.4, features.4"),
        ("saliency", ["features.4"], "expected none, saliency works on the input"),
    ],
)
def test_lists_of_layers_that_cannot_be(clf: xaikit.Classifier, method: str, layers: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        xaikit.attribute(clf, torch.rand(1, 3, 64, 64), method=method, layer=layers)


def photographs(folder: Path) -> Path:
    """Write two images of each class of texture-cnn."""
    scene = draw_scene(24, seed=1)
    for index, (pixels, label) in enumerate(zip(scene.pixels, scene.labels, strict=True)):
        (folder / CLASSES[int(label)]).mkdir(parents=True, exist_ok=True)
        save_image(pixels, folder / CLASSES[int(label)] / f"{index}.png")
    return folder


def test_a_library_is_a_folder_a_file_or_an_object(clf: xaikit.Classifier, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    library = xaikit.build_library(clf, folder, 4)
    library.save(tmp_path / "photos.safetensors")
    pixels = draw_scene(2, seed=3).pixels
    sources = [library, folder, str(folder), tmp_path / "photos.safetensors"]
    found = [xaikit.attribute(clf, pixels, method="libra-cam", library=one, references=4) for one in sources]
    assert {one.params["library"] for one in found} == {library.fingerprint}
    assert all(torch.equal(one.values, found[0].values) for one in found)
    assert not any("default-library" in flags for one in found for flags in one.flags)
    draw(folder / CLASSES[0] / "new.png")
    with pytest.raises(BadInput, match=r"nowhere: expected a reference library, got no such file"):
        xaikit.attribute(clf, pixels, method="libra-cam", library=str(tmp_path / "nowhere"))


def test_a_folder_that_changes_gives_another_library(clf: xaikit.Classifier, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    pixels = draw_scene(1, seed=3).pixels
    before = xaikit.attribute(clf, pixels, method="libra-cam", library=folder, references=4)
    for file in sorted((folder / CLASSES[0]).iterdir())[1:]:
        file.unlink()
    for file in sorted((folder / CLASSES[1]).iterdir())[1:]:
        file.unlink()
    after = xaikit.attribute(clf, pixels, method="libra-cam", library=folder, references=4)
    assert before.params["library"] != after.params["library"]
