"""The reference library: which images it takes, and for whom it may be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.networks import GAPNet, bound, images
from xaikit.foundation.errors import BadChecksum, BadInput
from xaikit.methods.activation.reference_library import Library, _Selection
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier


@pytest.fixture
def clf() -> Classifier:
    return balanced(5)


def balanced(seed: int, **options: object) -> Classifier:
    """Return a classifier that gives every class a share of `images`."""
    found = bound(GAPNet(classes=3), seed=seed, **options)
    with torch.no_grad():
        found.network.fc.bias -= found(images(60, seed=2)).mean(0)
    return found


def labelled(clf: Classifier, count: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Return images with the labels the model gives them, every fifth one wrong."""
    pixels = images(count, seed=seed)
    labels = clf(pixels).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    return pixels, labels


def by_hand(clf: Classifier, pixels: Tensor, labels: Tensor, references: int) -> list[list[int]]:
    """Select with a sort in plain Python."""
    logp = clf(pixels).double().log_softmax(1).detach()
    correct = logp.argmax(1) == labels
    chosen = []
    for label in range(3):
        candidates = [i for i in range(len(pixels)) if correct[i] and labels[i] != label]
        chosen.append(sorted(candidates, key=lambda i: (float(logp[i, label]), i))[:references])
    return chosen


def test_takes_the_true_lowest_among_correct_images_of_other_classes(clf: Classifier) -> None:
    pixels, labels = labelled(clf, 60)
    library = Library.build(clf, [(pixels[i : i + 7], labels[i : i + 7]) for i in range(0, 60, 7)], references=5)
    activations = torch.relu(clf.network.conv2(torch.relu(clf.network.conv1(pixels)))).detach()
    for label, chosen in enumerate(by_hand(clf, pixels, labels, 5)):
        found = library.references(label)
        assert len(chosen) == len(found) > 0
        assert torch.allclose(found.double(), activations[chosen], atol=1e-6)
        assert (library.confidence[label].diff() >= 0).all()


def test_ties_keep_the_order_of_the_data(clf: Classifier) -> None:
    pixels, labels = labelled(clf, 20)
    twice = torch.cat([pixels, pixels]), torch.cat([labels, labels])
    library = Library.build(clf, [twice], references=4)
    repeated = by_hand(clf, *twice, 4)
    pool = sorted({image for chosen in repeated for image in chosen})
    places = [[pool.index(image) for image in chosen] for chosen in repeated]
    assert library.places.tolist() == places


def test_the_portion_and_the_number_of_batches_do_not_matter(clf: Classifier) -> None:
    pixels, labels = labelled(clf, 40)
    whole = Library.build(clf, [(pixels, labels)], references=6)
    parts = Library.build(clf, ((pixels[i : i + 3], labels[i : i + 3]) for i in range(0, 40, 3)), references=6)
    assert torch.equal(whole.places, parts.places)
    assert torch.allclose(whole.activations, parts.activations)
    assert whole.fingerprint == parts.fingerprint


def test_one_pool_serves_all_classes(clf: Classifier) -> None:
    library = Library.build(clf, [labelled(clf, 60)], references=8)
    used = library.places[library.places >= 0]
    assert len(library.activations) == len(used.unique()) < len(used)


def test_save_and_load(clf: Classifier, tmp_path: Path) -> None:
    library = Library.build(clf, [labelled(clf, 40)], references=3, dtype=torch.float16)
    library.save(tmp_path / "lib.safetensors")
    loaded = Library.load(tmp_path / "lib.safetensors")
    assert loaded.activations.dtype == torch.float16
    for name in ("activations", "places", "confidence"):
        assert torch.equal(getattr(loaded, name), getattr(library, name))
    assert (loaded.model, loaded.layer, loaded.fingerprint) == (library.model, library.layer, library.fingerprint)
    with pytest.raises(BadInput, match="no such file"):
        Library.load(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no library")
    with pytest.raises(BadInput, match="expected a reference library"):
        Library.load(tmp_path / "text.safetensors")


def test_a_library_of_another_model_layer_or_preprocessing_is_refused(clf: Classifier) -> None:
    library = Library.build(clf, [labelled(clf, 40)], references=3)
    x = images(1)
    METHODS.get("libra-cam").build(clf, library=library).attribute(x)
    for other in (balanced(6), balanced(5, mean=[0.5] * 3, std=[0.2] * 3)):
        with pytest.raises(BadChecksum, match="build it with these weights"):
            METHODS.get("libra-cam").build(other, library=library).attribute(x)
    with pytest.raises(BadChecksum, match="expected one of layer 'conv1', got 'relu'"):
        METHODS.get("libra-cam").build(clf, layer="conv1", library=library).attribute(x)


def test_what_cannot_make_a_library_is_refused(clf: Classifier) -> None:
    pixels, labels = labelled(clf, 10)
    with pytest.raises(BadInput, match="got none of 10"):
        Library.build(clf, [(pixels, (clf(pixels).argmax(1) + 1) % 3)])
    with pytest.raises(BadInput, match="expected classes 0 to 2, got"):
        Library.build(clf, [(pixels, labels + 3)])
    with pytest.raises(BadInput, match=r"expected \(10,\) integers"):
        Library.build(clf, [(pixels, labels[:3])])
    with pytest.raises(BadInput, match="at least 1"):
        Library.build(clf, [(pixels, labels)], references=0)


def test_a_class_without_references_is_an_error_not_a_zero(clf: Classifier) -> None:
    pixels, labels = labelled(clf, 60)
    only = int(labels.mode().values)
    one_class = labels == only
    library = Library.build(clf, [(pixels[one_class], labels[one_class])], references=3)
    with pytest.raises(BadInput, match=f"expected references for 'class {only}', got none"):
        METHODS.get("libra-cam").build(clf, library=library).attribute(images(1), only)


def test_without_a_library_pictures_are_drawn_and_flagged(clf: Classifier) -> None:
    found = METHODS.get("libra-cam").build(clf, references=5).attribute(images(3))
    assert all("default-library" in flags for flags in found.flags)
    assert float(found.values.amax()) > 0
    again = METHODS.get("libra-cam").build(clf, references=5).attribute(images(3))
    assert torch.equal(found.values, again.values)
    drawn = Library.of_drawn_pictures(clf, clf.resolve_layer(None), (8, 8), 5)
    assert drawn.places.shape == (3, 5)
    assert (drawn.confidence.diff(dim=1) >= 0).all()


def test_references_equal_to_the_image_say_nothing(clf: Classifier) -> None:
    x = images(1)
    label = int(clf(x).argmax(1))
    library = Library.build(clf, [labelled(clf, 30)], references=2)
    own = torch.relu(clf.network.conv2(torch.relu(clf.network.conv1(x)))).detach()
    copies = Library(
        own.repeat(2, 1, 1, 1), torch.tensor([[0, 1]] * 3), library.confidence, library.model, library.layer
    )
    found = METHODS.get("libra-cam").build(clf, library=copies, references=2).attribute(x, label)
    assert "no-reference" in found.flags[0]
    assert float(found.values.abs().max()) == 0
    assert found.diagnostics["references"].tolist() == [0]


def test_the_pool_does_not_hold_the_batches_it_was_taken_from() -> None:
    selection = _Selection(classes=3, references=1, dtype=torch.float32)
    activations = torch.rand(16, 5, 4, 4)
    selection.offer(activations, torch.rand(16, 3).double().log(), torch.ones(16, 3, dtype=torch.bool))
    assert all(one.untyped_storage().nbytes() == one.numel() * 4 for one in selection.pool.values())


def test_a_library_of_another_form_is_one_line(tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    about = {"schema": 1, "model": "m", "layer": "l"}
    tensors = {
        "activations": torch.zeros(3, 2, 4, 4),
        "places": torch.tensor([[0, 2], [1, -1]]),
        "confidence": torch.zeros(2, 2, dtype=torch.float64),
    }
    cases: list[tuple[dict[str, object], dict[str, Tensor]]] = [
        *((about | change, {}) for change in ({"schema": 2}, {"model": 3}, {"layer": None}, {"layer": ["l"]})),
        ({}, {}),
        (about, {"activations": torch.zeros(3)}),
        (about, {"activations": torch.zeros(3, 2, 4, 4, dtype=torch.int64)}),
        (about, {"places": torch.tensor([[0, 3], [1, 1]])}),
        (about, {"places": torch.tensor([[0, -2], [1, 1]])}),
        (about, {"places": torch.zeros(2, 2)}),
        (about, {"places": torch.zeros(4, dtype=torch.int64)}),
        (about, {"places": torch.zeros(0, 2, dtype=torch.int64), "confidence": torch.zeros(0, 2, dtype=torch.float64)}),
        (about, {"confidence": torch.zeros(2, 3, dtype=torch.float64)}),
        (about, {"confidence": torch.zeros(2, 2)}),
    ]
    for number, (metadata, changed) in enumerate([(about, {}), *cases]):
        file = tmp_path / f"{number}.safetensors"
        save_file(tensors | changed, file, {"xaikit-library": json.dumps(metadata)})
        if not number:
            assert len(Library.load(file)) == 2
            continue
        with pytest.raises(BadInput, match="reference library, got") as caught:
            Library.load(file)
        assert "\n" not in str(caught.value)
    for text in ("[]", "3", "{", ""):
        save_file(tensors, tmp_path / "text.safetensors", {"xaikit-library": text})
        with pytest.raises(BadInput, match="expected a reference library"):
            Library.load(tmp_path / "text.safetensors")


def test_pipes_and_folders_are_no_library(tmp_path: Path) -> None:
    import os

    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(BadInput, match="got a pipe"):
            Library.load(tmp_path / "pipe")
    with pytest.raises(BadInput, match="got folder"):
        Library.load(tmp_path)


def test_a_full_disk_is_one_line(clf: Classifier, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    library = Library.build(clf, [labelled(clf, 40)], references=3)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # as a disk with no more room
    try:
        with pytest.raises(BadInput, match="cannot be written"):
            library.save(tmp_path / "lib.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
