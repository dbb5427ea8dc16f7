"""timm's and transformers' networks by name: from the cache of the Hub, files and folders, and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import xaikit
from xaikit.foundation.errors import BadInput, MissingExtra, UnknownName
from xaikit.zoo.sources import hub

timm = pytest.importorskip("timm", reason="needs timm: pip install 'xaikit[timm]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xaikit[transformers]'")
huggingface_hub = pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.slow

NAME = "timm/resnet10t"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(cache: Path, repository: str, file: str, state: dict[str, torch.Tensor]) -> None:
    """Put a file into a cache of the Hub, as a download leaves it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "snapshots" / ("0" * 40) / file)


def classifies_as(classifier: xaikit.Classifier, network: torch.nn.Module, side: int) -> bool:
    """Return whether a classifier gives the logits of a network on normalised pixels."""
    pixels = torch.rand(2, 3, side, side)
    with torch.no_grad():
        own = network.eval()(classifier.normalize(pixels))
        return torch.allclose(classifier(pixels), getattr(own, "logits", own), atol=1e-5)


def vit(**more: Any) -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return transformers.ViTConfig(**sizes, image_size=32, patch_size=8, **more)


def test_a_tag_of_timm_comes_from_the_cache_with_its_facts(cache: Path) -> None:
    network = timm.create_model("resnet10t")
    keep(cache, "timm/resnet10t.c3_in1k", "model.safetensors", network.state_dict())
    for name, weights in (("timm/resnet10t.c3_in1k", None), (NAME, "c3_in1k"), (NAME, None), (NAME, "DEFAULT")):
        classifier = xaikit.load(name, weights, device="cpu")
        known = timm.get_pretrained_cfg("resnet10t.c3_in1k")
        assert (classifier.weights, classifier.name) == ("c3_in1k", name)
        assert classifier.size == tuple(known.input_size[1:])
        assert classifier.mean.flatten().tolist() == pytest.approx(known.mean)
        assert classifier.labels is not None
        assert classifier.labels[0] == "tench"
        assert "state_dict" not in classifier.module.pretrained_cfg
        assert classifies_as(classifier, network, 64)


def test_weights_of_a_file_have_its_classes(tmp_path: Path) -> None:
    network = timm.create_model("resnet10t", num_classes=4)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "mine.pth")
    classifier = xaikit.load(NAME, tmp_path / "mine.pth", device="cpu")
    assert (classifier.classes, classifier.labels, classifier.weights) == (4, None, "mine.pth")
    assert classifies_as(classifier, network, 64)
    with pytest.raises(BadInput, match=r"expected those of timm/resnet18, got 53 keys missing"):
        xaikit.load("timm/resnet18", tmp_path / "mine.pth")


def test_a_network_of_one_size_is_built_for_the_size_asked() -> None:
    classifier = xaikit.load("timm/vit_tiny_patch16_224", "random", size=64, device="cpu")
    assert classifier(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert classifier.size == (64, 64)


def test_random_weights_are_those_of_one_seed() -> None:
    state = torch.random.get_rng_state()
    one, other = (xaikit.load(NAME, "random", device="cpu").fingerprint for _ in range(2))
    assert one == other
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "weights", "kind", "match"),
    [
        ("timm/resnet81", None, UnknownName, r"did you mean timm/resnet18"),
        ("timm/", None, UnknownName, r"unknown model 'timm/'"),
        ("timm/resnet18", "a9_in1k", UnknownName, r"unknown weights 'a9_in1k'; did you mean a3_in1k"),
        ("timm/resnet18.a9_in1k", None, UnknownName, r"unknown weights 'a9_in1k'"),
        ("timm/resnet18", "missing.pth", BadInput, r"missing\.pth: no such file"),
        ("timm/resnet18", None, BadInput, r"could not download the weights \(no route\); give --weights FILE"),
        ("transformers/microsoft/resnet-50", None, BadInput, r"download the weights \(no route\); give the folder of"),
        ("transformers/microsoft/resnet-50", "random", BadInput, r"download the weights \(no route\)"),
        ("transformers/a/b/c", None, BadInput, r"expected a folder, or OWNER/NAME on the Hub, got none"),
        ("transformers/", None, BadInput, r"expected a folder, or OWNER/NAME on the Hub, got none"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, weights: str | None, kind: type[Exception], match: str
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(kind, match=match) as caught:
        xaikit.load(name, weights)
    assert "\n" not in str(caught.value)


def test_a_name_that_the_hub_does_not_have_suggests_what_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(huggingface_hub.errors.RepositoryNotFoundError):
        def __init__(self) -> None:
            Exception.__init__(self, "404")

    def not_there(*_: object, **__: object) -> None:
        raise Missing

    keep(cache, "microsoft/resnet-50", "model.safetensors", {"a": torch.ones(1)})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", not_there)
    with pytest.raises(UnknownName, match=r"did you mean transformers/microsoft/resnet-50"):
        xaikit.load("transformers/microsoft/resnet-5O")


def test_a_folder_of_transformers_has_its_facts(tmp_path: Path) -> None:
    network = transformers.ViTForImageClassification(vit(num_labels=3, id2label={0: "a", 1: "b", 2: "c"}))
    network.save_pretrained(tmp_path / "mine")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "mine")
    classifier = xaikit.load(f"transformers/{tmp_path / 'mine'}", device="cpu")
    assert (classifier.size, classifier.labels, classifier.name) == ((32, 32), ["a", "b", "c"], "mine")
    assert classifier.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert classifies_as(classifier, network, 32)
    torch.save(network.state_dict(), tmp_path / "other.pth")
    assert classifies_as(xaikit.load(f"transformers/{tmp_path / 'mine'}", tmp_path / "other.pth"), network, 32)
    assert not classifies_as(xaikit.load(f"transformers/{tmp_path / 'mine'}", "random"), network, 32)
    with pytest.raises(BadInput, match=r"give transformers/.*mine for transformers"):
        xaikit.load(tmp_path / "mine")


def test_a_folder_without_a_processor_has_the_size_of_its_configuration(tmp_path: Path) -> None:
    transformers.ViTForImageClassification(vit(num_labels=2)).save_pretrained(tmp_path)
    classifier = xaikit.load(f"transformers/{tmp_path}", device="cpu")
    assert (classifier.size, classifier.labels) == ((32, 32), None)
    with pytest.warns(xaikit.XaikitWarning, match="neither mean nor std is known"):
        classifier.resizing()


def test_a_backbone_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    transformers.ViTModel(vit()).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"an image classifier, got none of classifier\.bias, classifier\.weight"):
        xaikit.load(f"transformers/{tmp_path}")


def test_a_model_of_text_or_an_empty_folder_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=10)).save_pretrained(tmp_path / "bert")
    (tmp_path / "empty").mkdir()
    for name, weights in (("bert", None), ("bert", "random"), ("empty", None)):
        with pytest.raises(BadInput, match="expected an image classifier of transformers, got another model"):
            xaikit.load(f"transformers/{tmp_path / name}", weights)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(hub.importlib, "import_module", missing)
    for name in ("timm/resnet18", "transformers/microsoft/resnet-50"):
        with pytest.raises(MissingExtra, match=rf"pip install 'xaikit\[{name.partition('/')[0]}\]'"):
            xaikit.load(name)
