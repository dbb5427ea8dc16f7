"""Training: it learns, survives a kill to the bit, and says what is wrong with a recipe or with the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from xaikit.api import load
from xaikit.foundation.errors import BadInput, UnknownName, XaikitWarning
from xaikit.foundation.files import package_data
from xaikit.images.labelled import folder_split
from xaikit.training.augmentation import flipped, masked
from xaikit.training.metrics import classification_metrics, sole_prediction
from xaikit.training.preparation import prepare
from xaikit.training.train import train
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture


@pytest.fixture(autouse=True)
def drawings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No drawings beside the cards, as they take longer than these trainings, but in the test of what is written."""
    if request.node.name != "test_a_folder_is_learned_and_written":
        monkeypatch.setattr("xaikit.training.card.draw", lambda *content: None)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Bright upper or bright lower halves: 12 of one class, 8 of the other."""
    draw = np.random.default_rng(0)
    for name, count, half in (("lower", 12, slice(8, 16)), ("upper", 8, slice(0, 8))):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for i in range(count):
            grey = draw.integers(0, 90, (16, 16), dtype=np.uint8)
            grey[half] += 150
            Image.fromarray(grey).save(folder / f"{i:02}.png")
    return tmp_path / "images"


def recipe(images: Path, **changes: Any) -> Recipe:
    values = {"arch": "lenet5", "data": str(images), "size": 16, "epochs": 4, "batch_size": 4, "learning_rate": 0.01}
    return Recipe.of(**values | changes)


@pytest.mark.slow
def test_a_folder_is_learned_and_written(images: Path, tmp_path: Path) -> None:
    steps = []
    metrics = train(recipe(images), tmp_path / "out", device="cpu", progress=lambda *step: steps.append(step[:2]))
    assert metrics["accuracy"] == 1.0
    assert metrics["balanced_accuracy"] == metrics["roc_auc"] == 1.0
    assert metrics["images"] == {"training": 16, "validation": 4}
    assert steps == [(step, 16) for step in range(1, 17)]
    assert metrics["history"][-1]["training_loss"] < metrics["history"][0]["training_loss"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "card.md",
        "confusion.png",
        "learning_curves.png",
        "metrics.json",
        "recipe.toml",
        "weights.safetensors",
    ]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["confusion"] == metrics["confusion"]
    for name in ("confusion", "learning_curves"):
        drawing = np.asarray(Image.open(tmp_path / "out" / f"{name}.png").convert("RGB"))
        assert len(np.unique(drawing.reshape(-1, 3), axis=0)) > 50
        assert f"({name}.png)" in (tmp_path / "out" / "card.md").read_text()
    assert "| lower | 1.0000 | 1.0000 | 1.0000 | 1.0000 | 1.0000 | 2 |" in (tmp_path / "out" / "card.md").read_text()


def test_the_written_recipe_rebuilds_the_network_and_repeats_the_run(images: Path, tmp_path: Path) -> None:
    train(recipe(images, epochs=1), tmp_path / "first", device="cpu")
    written = Recipe.read(tmp_path / "first" / "recipe.toml")
    assert (written.labels, written.channels, written.size) == (("lower", "upper"), 1, 16)
    train(written, tmp_path / "second", device="cpu")
    assert same_weights(tmp_path / "first", tmp_path / "second")
    architecture(written.arch).build(2, 1, 16).load_state_dict(load_file(tmp_path / "first" / "weights.safetensors"))


@pytest.mark.slow
def test_a_killed_run_ends_where_an_uninterrupted_one_ends(images: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    plan = recipe(images, masks=0.5, flip=0.5, crop=0.5, rotate=20, colour=0.3)
    whole = train(plan, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt, match="epoch 1 saved; the same command goes on"):
        train(plan, tmp_path / "killed", device="cpu", progress=interrupt)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["checkpoint.pt"]
    resumed_at = []
    resumed = train(plan, tmp_path / "killed", device="cpu", progress=lambda done, *_: resumed_at.append(done))
    assert resumed_at[0] == 5
    assert resumed["history"] == whole["history"]
    assert resumed["loss_curve"] == whole["loss_curve"]
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is_or_extended_or_replaced(images: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, text: str) -> None:
        if done == total:
            raise KeyboardInterrupt

    plan, longer, out = recipe(images, epochs=1), recipe(images, epochs=3), tmp_path / "out"
    first = train(plan, out, device="cpu")
    with pytest.warns(XaikitWarning, match="is finished and left as it is; more epochs extend it"):
        again = train(plan, out, device="cpu", progress=lambda *step: pytest.fail("it was trained"))
    assert again == json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(first))
    with pytest.raises(BadInput, match="a finished run, got one of another recipe"):
        train(recipe(images, epochs=1, seed=1), out, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(longer, out, device="cpu", progress=stop)
    assert load(str(out)).labels == ["lower", "upper"]  # the finished run stays until the extension is finished
    extended = train(longer, out, device="cpu")
    assert extended["history"][0] == first["history"][0]
    assert Recipe.read(out / "recipe.toml").restarts == (1,)
    train(recipe(images, epochs=3, restarts=[1]), tmp_path / "whole", device="cpu")
    assert same_weights(tmp_path / "whole", out)
    with pytest.raises(BadInput, match="at least the 3 epochs"):
        train(plan, out, device="cpu")
    train(plan, out, device="cpu", overwrite=True)
    assert json.loads((out / "metrics.json").read_text())["history"] == first["history"]


def same_weights(first: Path, second: Path) -> bool:
    """Whether the networks in two folders are the same to the bit."""
    a, b = (load_file(folder / "weights.safetensors") for folder in (first, second))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_another_recipe_does_not_continue_an_unfinished_run(images: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(images), tmp_path, device="cpu", progress=interrupt)
    with pytest.raises(BadInput, match="got another"):
        train(recipe(images, seed=1), tmp_path, device="cpu")
    (tmp_path / "checkpoint.pt").write_bytes(b"something else")
    with pytest.raises(BadInput, match="got another"):
        train(recipe(images), tmp_path, device="cpu")


@pytest.mark.parametrize("what", ["pictures", "torch", "xaikit"])
def test_other_pictures_or_versions_do_not_continue_an_unfinished_run(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(images), tmp_path / "out", device="cpu", progress=interrupt)
    if what == "pictures":  # their names, mean and deviation stay
        for file in images.rglob("*.png"):
            Image.open(file).rotate(90).save(file)
    else:
        monkeypatch.setattr("torch.__version__" if what == "torch" else "xaikit.foundation.code.__version__", "99")
    with pytest.raises(BadInput, match="of this recipe, data and versions, got another"):
        train(recipe(images), tmp_path / "out", device="cpu")


def test_a_stop_while_the_results_are_written_leaves_no_weights_beside_another_recipe(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*content: Any) -> None:
        raise BadInput("disk full")

    train(recipe(images, epochs=1), tmp_path / "out", device="cpu")
    (images / "upper").rename(images / "a")  # the order of the classes turns round
    for name in ("write_json", "write_training_card"):
        with monkeypatch.context() as patch:
            patch.setattr(f"xaikit.training.train.{name}", full)
            with pytest.raises(BadInput, match="disk full"):
                train(recipe(images, epochs=1), tmp_path / "out", device="cpu", overwrite=True)
        with pytest.raises(BadInput, match="its training is not finished, run it again"):
            load(str(tmp_path / "out"))
    train(recipe(images, epochs=1), tmp_path / "out", device="cpu", progress=lambda *step: pytest.fail("all is done"))
    assert load(str(tmp_path / "out")).labels == ["a", "lower"]


def test_two_trainings_in_one_folder_are_refused(images: Path, tmp_path: Path) -> None:
    def second(done: int, total: int, text: str) -> None:
        if done == 1:
            with pytest.raises(BadInput, match="expected a folder that no other run writes to"):
                train(recipe(images, seed=1), tmp_path / "out", device="cpu")

    assert train(recipe(images, epochs=1), tmp_path / "out", device="cpu", progress=second)["accuracy"] >= 0


def test_a_loss_that_is_no_number_stops_the_run(images: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lower learning_rate"):
        train(recipe(images, optimizer="sgd", learning_rate=1e30), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_the_global_generator_is_left_alone(images: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(recipe(images, epochs=1), tmp_path, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_torchvision_network_trains_on_grey_images(images: Path, tmp_path: Path) -> None:
    metrics = train(
        recipe(images, arch="squeezenet1_1", weights="random", channels=1, size=32, epochs=1), tmp_path, device="cpu"
    )
    assert load_file(tmp_path / "weights.safetensors")["features.0.weight"].shape == (64, 1, 3, 3)
    assert metrics["parameters"] == 722_370


def test_fine_tuning_begins_with_trained_weights_and_a_new_head(images: Path, tmp_path: Path) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    train(recipe(images, epochs=2, mean=[0.3]), first, device="cpu")
    old = load_file(first / "weights.safetensors")
    train(recipe(images, epochs=1, weights=str(first), freeze=True, seed=1), out, device="cpu")
    new, written = load_file(out / "weights.safetensors"), Recipe.read(out / "recipe.toml")
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        "classifier.4.weight",
        "classifier.4.bias",
    }
    assert written.weights == (first / "weights.safetensors").as_posix()
    assert (written.mean, written.std) == ((0.3,), Recipe.read(first / "recipe.toml").std)
    assert "Weights at the beginning: `weights.safetensors`, with a new head, which alone was trained" in (
        (out / "card.md").read_text()
    )
    train(recipe(images, epochs=1, weights=str(first)), tmp_path / "whole", device="cpu")
    assert not torch.equal(
        load_file(tmp_path / "whole" / "weights.safetensors")["features.0.weight"], old["features.0.weight"]
    )


@pytest.mark.slow
def test_a_network_of_timm_is_trained_and_loaded(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs timm: pip install 'xaikit[timm]'")
    arch = "timm/resnet10t"
    torch.save(architecture(arch).build(5, 3, 32).state_dict(), tmp_path / "five.pth")
    begin = {"arch": arch, "weights": str(tmp_path / "five.pth"), "channels": 3, "size": 32, "freeze": True}
    train(recipe(images, epochs=1, **begin), tmp_path / "out", device="cpu")
    old, new = torch.load(tmp_path / "five.pth"), load(str(tmp_path / "out"), device="cpu")
    changed = [name for name, value in new.network.state_dict().items() if not torch.equal(value, old[name])]
    assert changed == [name for name in old if old[name].shape[:1] == (5,)]
    assert (new.labels, new.size) == (["lower", "upper"], (32, 32))


def test_weights_that_cannot_be_had_are_one_line_and_never_random_ones(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: Any) -> None:
        raise BadInput("resnet18: could not download the weights IMAGENET1K_V1 (no network); give --weights FILE")

    monkeypatch.setattr("xaikit.zoo.beginning.from_enum", offline)
    with pytest.raises(
        BadInput, match=r"got none \(resnet18: could not .* network\)\); give --weights FILE, or --from-scratch"
    ):
        train(recipe(images, arch="resnet18"), tmp_path, device="cpu")
    with pytest.raises(BadInput, match="as lenet5 has no named weights, got 'DEFAULT'"):
        train(recipe(images, weights="DEFAULT"), tmp_path, device="cpu")
    with pytest.raises(BadInput, match="freeze: expected trained weights of lenet5, got random ones"):
        train(recipe(images, freeze=True), tmp_path, device="cpu")
    train(recipe(images, size=32, epochs=1), tmp_path / "first", device="cpu")
    with pytest.raises(BadInput, match="of another shape"):
        train(recipe(images, weights=str(tmp_path / "first")), tmp_path / "second", device="cpu")


def test_rare_classes_weigh_more(images: Path) -> None:
    split = folder_split(images, channels=1, size=16, validation=0.25, seed=0)
    assert split.training.labels.bincount().tolist() == [9, 6]
    assert split.training.balanced_weights(2).tolist() == pytest.approx([15 / 18, 15 / 12])


def test_splits_are_stratified_disjoint_and_fixed_by_the_seed(images: Path) -> None:
    first, again, other = (folder_split(images, 1, 16, validation=0.25, seed=seed) for seed in (0, 0, 1))
    assert first.validation.labels.bincount().tolist() == [3, 2]
    assert not set(first.training.identity) & set(first.validation.identity)
    assert first.validation.identity == again.validation.identity != other.validation.identity


def test_a_given_validation_folder_is_used(images: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    images.rename(tmp_path / "data" / "train")
    held_out = tmp_path / "data" / "val" / "upper"
    held_out.mkdir(parents=True)
    (tmp_path / "data" / "train" / "upper" / "00.png").rename(held_out / "00.png")
    split = folder_split(tmp_path / "data", 1, 16, validation=0.25, seed=0)
    assert (len(split.training), split.validation.labels.tolist()) == (19, [1])
    held_out.rename(held_out.with_name("sideways"))
    with pytest.raises(BadInput, match="sideways"):
        folder_split(tmp_path / "data", 1, 16, validation=0.25, seed=0)


def test_a_test_split_is_evaluated_once_and_its_images_are_no_class(images: Path, tmp_path: Path) -> None:
    for split, upper in (("training", range(4)), ("Test", range(4, 8))):
        for name, numbers in (("upper", upper), ("lower", range(upper.start, upper.start + 4))):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in numbers:
                (images / name / f"{i:02}.png").rename(tmp_path / "data" / split / name / f"{i:02}.png")
    metrics = train(recipe(tmp_path / "data", epochs=1), tmp_path / "out", device="cpu")
    assert metrics["images"] == {"training": 6, "validation": 2, "test": 8}
    assert sum(map(sum, metrics["test"]["confusion"])) == 8
    assert list(metrics["test"]["per_class"]) == ["lower", "upper"]
    copy = tmp_path / "data" / "Test" / "upper" / "copy.png"
    copy.write_bytes((tmp_path / "data" / "training" / "upper" / "00.png").read_bytes())
    with pytest.warns(XaikitWarning, match="1 of its images are also in"):
        folder_split(tmp_path / "data", 1, 16, validation=0.25, seed=0)
    (tmp_path / "data" / "training").rename(tmp_path / "data" / "val")
    with pytest.raises(BadInput, match="a folder train among the splits, got Test, val"):
        folder_split(tmp_path / "data", 1, 16, validation=0.25, seed=0)


def test_unreadable_images_are_named_and_left_out(images: Path) -> None:
    (images / "lower" / "00.png").write_text("no picture")
    with pytest.warns(XaikitWarning, match=r"00\.png"):
        split = folder_split(images, 1, 16, validation=0.25, seed=0)
    assert len(split.training) + len(split.validation) == 19


def test_a_class_with_a_single_image_is_refused(images: Path) -> None:
    for path in list((images / "upper").iterdir())[1:]:
        path.unlink()
    with pytest.raises(BadInput, match="at least 2 readable images, got 1"):
        folder_split(images, 1, 16, validation=0.25, seed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('arch = "lenet5"\ndata = "digits"\nepoch = 3', "unknown key 'epoch'; did you mean epochs"),
        ('arch = "lenet5"\ndata = "digits"\nlr = 3', "unknown key 'lr'; did you mean learning_rate"),
        ('arch = "lenet5"\ndata = "digits"\nweights = "random"\nfreeze = true', "freeze: expected trained weights"),
        ('arch = "lenet5"', "expected the key 'data'"),
        ('arch = "lenet5"\ndata = "digits"\nrestarts = [3, 2]', "expected rising epochs below 30"),
        ('arch = "lenet5"\ndata = "digits"\nepochs = 0', "epochs: input should be greater than or equal to 1, got 0"),
        ("arch = lenet5", "expected TOML"),
    ],
)
def test_bad_recipes_get_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        Recipe.read(path)
    assert "\n" not in str(caught.value)


def test_a_data_folder_is_looked_for_beside_the_recipe(images: Path) -> None:
    path = images.parent / "recipe.toml"
    path.write_text('arch = "lenet5"\ndata = "images"\nsize = 16')
    assert Recipe.read(path).folder == images.resolve()


def test_a_recipe_that_says_the_same_is_left_as_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('# mine\narch = "lenet5"\ndata = "digits"\n')
    Recipe.of(arch="lenet5", data="digits").write(path)
    assert path.read_text().startswith("# mine")
    Recipe.of(arch="lenet5", data="digits", labels=['quote " and \\', "é\n"], learning_rate=1e-7).write(path)
    assert Recipe.read(path).labels == ('quote " and \\', "é\n")
    assert Recipe.read(path).learning_rate == 1e-7


def test_recipes_that_do_not_fit_their_data_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a recipe file"):
        Recipe.read(tmp_path / "gone.toml")
    with pytest.raises(UnknownName, match="did you mean"):
        prepare(recipe(images, arch="lenet"))
    with pytest.raises(BadInput, match="leave channels and size out"):
        prepare(Recipe.of(arch="lenet5", data="digits", size=64))
    with pytest.raises(BadInput, match="labels: expected the data's"):
        prepare(recipe(images, labels=["a", "b"]))
    with pytest.raises(BadInput, match="empty = 0"):
        prepare(recipe(images, empty=0.1))
    with pytest.raises(BadInput, match="1 values of mean and std, got 3 and 1"):
        prepare(recipe(images, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(BadInput, match="device"):
        train(recipe(images), tmp_path / "out", device="abacus")


def test_mean_and_std_are_measured_on_the_training_images(images: Path) -> None:
    filled, split, _ = prepare(recipe(images))
    pixels = split.training.read(range(len(split.training)))
    assert filled.mean == pytest.approx((pixels.mean().item(),), abs=1e-4)
    assert filled.std == pytest.approx((pixels.std(correction=0).item(),), abs=1e-4)


def test_metrics_follow_from_labels_and_probabilities() -> None:
    labels, predictions = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 0])
    chances = torch.tensor([[5, 1, 0], [6, 2, 0], [3, 7, 0], [2, 6, 0], [1, 9, 0], [4, 0, 0]]) / 10
    metrics = classification_metrics(labels, predictions, chances, ["a", "b", "c"])
    assert metrics["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert metrics["balanced_accuracy"] == pytest.approx(5 / 9)
    assert metrics["per_class"]["a"].pop("specificity") == pytest.approx(2 / 3)
    assert metrics["per_class"]["a"].pop("roc_auc") == pytest.approx(8 / 9)  # of the pairs 3 x 3, 3 < 4 is wrong
    assert metrics["per_class"]["b"]["roc_auc"] == pytest.approx(7 / 8)  # of the pairs 2 x 4, 6 < 7 is wrong
    assert metrics["per_class"]["c"].pop("specificity") == 1
    assert metrics["per_class"]["c"].pop("roc_auc") == 0.5
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["per_class"]["a"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "images": 3})
    assert metrics["per_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "images": 1}
    assert metrics["macro"] == pytest.approx(
        {
            "precision": 4 / 9,
            "recall": 5 / 9,
            "f1": (2 / 3 + 4 / 5) / 3,
            "specificity": (2 / 3 + 3 / 4 + 1) / 3,
            "roc_auc": (8 / 9 + 7 / 8 + 1 / 2) / 3,
        }
    )
    absent = classification_metrics(labels[:3], predictions[:3], chances[:3], ["a", "b", "c"])
    assert absent["per_class"]["a"]["specificity"] is absent["per_class"]["b"]["roc_auc"] is absent["roc_auc"] is None
    assert (absent["macro"]["recall"], absent["balanced_accuracy"]) == (2 / 3, 2 / 3)
    assert sole_prediction(metrics) == ""
    assert sole_prediction(classification_metrics(labels, labels * 0 + 1, chances, ["a", "b", "c"])) == "b"
    other = classification_metrics(labels[:5], torch.tensor([0, 0, 2, 1, 2]), chances[:5, :2], ["a", "b"])
    assert other["confusion"] == [[2, 0, 1], [0, 1, 1]]
    assert other["accuracy"] == 0.6
    assert metrics["weighted"]["precision"] == pytest.approx((3 * 2 / 3 + 2 * 2 / 3) / 6)
    assert metrics["micro"]["f1"] == metrics["accuracy"]


def test_masks_reach_their_share_and_leave_the_rest_alone() -> None:
    inputs = torch.ones(400, 1, 16, 16)
    out = masked(inputs, 0.4, torch.Generator().manual_seed(0))
    touched = (out != 1).flatten(1).any(1)
    assert touched.float().mean().item() == pytest.approx(0.4, abs=0.07)
    removed = (out[touched] == 0).flatten(1).float().mean(1)
    assert removed.max() <= 0.6
    assert 0.25 < removed.mean() < 0.35
    hard = ((out[touched] == 0) | (out[touched] == 1)).flatten(1).all(1)
    assert 0.35 < hard.float().mean() < 0.65


def test_flips_mirror_left_and_right() -> None:
    inputs = torch.arange(6.0).view(1, 1, 2, 3)
    stream = torch.Generator().manual_seed(0)
    assert torch.equal(flipped(inputs, 1.0, stream), inputs.flip(3))
    assert torch.equal(flipped(inputs, 0.0, stream), inputs)


@pytest.mark.parametrize(("name", "least"), [("texture-cnn", 0.98), ("texture-vit", 0.98), ("lenet5-digits", 0.97)])
def test_shipped_networks_are_whole(name: str, least: float) -> None:
    folder = package_data(f"models/{name}")
    plan = Recipe.read(folder / "recipe.toml")
    metrics = json.loads((folder / "metrics.json").read_text())
    network = architecture(plan.arch).build(len(plan.labels), plan.channels, plan.size)
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    assert metrics["accuracy"] >= least
    assert f"Accuracy: {metrics['accuracy']:.4f}" in (folder / "card.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "seconds"), [("texture-cnn", 0.98, 180), ("lenet5-digits", 0.97, 60)])
def test_shipped_recipes_reach_their_accuracy(name: str, least: float, seconds: float, tmp_path: Path) -> None:
    metrics = train(Recipe.read(package_data(f"models/{name}") / "recipe.toml"), tmp_path, device="cpu")
    assert metrics["accuracy"] >= least
    assert metrics["seconds"] <= seconds


def test_a_full_disk_is_one_line_and_the_run_continues_later(images: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # as a disk with no more room
    try:
        with pytest.raises(BadInput, match=r"checkpoint\.pt: cannot be written"):
            train(recipe(images), tmp_path / "out", device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").iterdir())
    assert train(recipe(images), tmp_path / "out", device="cpu")["accuracy"] >= 0
