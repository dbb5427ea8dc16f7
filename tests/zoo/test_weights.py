"""Weights from files: what is opened, what is refused, and what the messages say."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision.models as tv
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.zoo.architectures.cifar_resnet import CifarResNet
from xaikit.zoo.architectures.lenet import LeNet5
from xaikit.zoo.empty_networks import blank, drawn
from xaikit.zoo.weights import fill, read_state, trained

STATE = {"conv.weight": torch.arange(8.0).reshape(2, 1, 2, 2), "conv.bias": torch.ones(2), "count": torch.tensor(3)}


def assert_same(state: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(state) == list(other)
    assert all(torch.equal(state[key], other[key]) and state[key].dtype == other[key].dtype for key in other)


# ---- opened ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors", "weights"])
def test_both_formats_give_the_tensors(tmp_path: Path, name: str) -> None:
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save(STATE, tmp_path / name)
    assert_same(dict(sorted(read_state(tmp_path / name).items())), dict(sorted(STATE.items())))


def test_the_format_before_zip_archives_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_same(read_state(tmp_path / "w.pth"), STATE)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "network"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_checkpoints_and_prefixes_are_opened(tmp_path: Path, key: str, prefix: str) -> None:
    inner = {prefix + name: tensor for name, tensor in STATE.items()}
    torch.save({"epoch": 3, key: inner, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert_same(read_state(tmp_path / "w.pth"), STATE)


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(mixed, tmp_path / "w.pth")
    assert_same(read_state(tmp_path / "w.pth"), mixed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_floating_tensors_become_float32(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    file = tmp_path / f"w.{suffix}"
    cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
    (torch.save if suffix == "pth" else safetensors.torch.save_file)(cast, file)
    state = read_state(file)
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        "conv.weight": torch.float32,
        "conv.bias": torch.float32,
        "count": torch.int64,
    }
    assert torch.equal(state["conv.weight"], STATE["conv.weight"])


# ---- refused ---------------------------------------------------------------------------------------------------------


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the pickle was run",))


def write_code(path: Path) -> None:
    torch.save({"a": Code()}, path)


def write_plain_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Code()}))


def write_old_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Code()}, protocol=0))


def write_whole_network(path: Path) -> None:
    torch.save(nn.Conv2d(1, 1, 1), path)


def write_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "b")


def write_cut(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])


def write_cut_old_format(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_code, "expected tensors only, got other objects, which could run code"),
        (write_plain_pickle_with_code, "expected tensors only, got other objects, which could run code"),
        (write_old_pickle_with_code, "expected a weights file, got something else"),
        (write_whole_network, "expected tensors only, got other objects, which could run code"),
        (write_archive, "expected a weights file, got a damaged or another file"),
        (write_cut, "expected a weights file, got a damaged or another file"),
        (write_cut_old_format, "expected a weights file, got a damaged or another file"),
        (lambda path: path.write_text("hello"), "expected a weights file, got something else"),
        (lambda path: path.write_bytes(b""), "expected a weights file, got an empty file"),
        (Path.mkdir, "expected a weights file, got a folder"),
        (lambda path: None, "no such file; check the path"),
        (lambda path: torch.save([1, 2], path), "expected tensors by name, got list"),
        (lambda path: torch.save({}, path), "expected tensors by name, got dict"),
        (lambda path: torch.save({"lr": 0.1, "epoch": 3}, path), "got other values in lr, epoch"),
        (lambda path: torch.save({"a": torch.ones(1), 3: torch.ones(1)}, path), "got other values in 3"),
    ],
)
def test_what_is_no_state_dict_is_refused_in_one_line(tmp_path: Path, write: object, message: str) -> None:
    file = tmp_path / "w.pth"
    write(file)  # type: ignore[operator]
    with pytest.raises(BadInput) as caught:
        read_state(file)
    text = str(caught.value)
    assert text.startswith(f"weights: {file}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match="expected a safetensors file, got something else or a damaged one"):
        read_state(tmp_path / "w.safetensors")


# ---- into a network --------------------------------------------------------------------------------------------------


def test_a_filled_network_computes_what_the_original_does() -> None:
    original = drawn(lambda: CifarResNet(20))
    copy = fill(blank(lambda: CifarResNet(20)), original.state_dict(), "cifar-resnet20", "w.pth")
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(copy(inputs), original(inputs))
    assert all(parameter.requires_grad for parameter in copy.parameters())


def test_batch_counters_may_be_missing() -> None:
    state = {k: v for k, v in drawn(lambda: CifarResNet(20)).state_dict().items() if not k.endswith("tracked")}
    network = fill(blank(lambda: CifarResNet(20)), state, "cifar-resnet20", "w.pth")
    assert network.get_buffer("bn1.num_batches_tracked") == 0


def test_weights_of_another_architecture_are_named_key_by_key() -> None:
    state = blank(lambda: CifarResNet(32)).state_dict()
    with pytest.raises(BadInput) as caught:
        fill(blank(lambda: tv.squeezenet1_1()), state, "squeezenet1_1", "w.pth")
    own = len(tv.squeezenet1_1().state_dict())
    assert str(caught.value) == (
        f"weights: w.pth: expected those of squeezenet1_1, got {own} keys missing (features.0.weight, features.0.bias, "
        f"features.3.squeeze.weight, ...), {len(state)} keys unexpected (conv1.weight, bn1.weight, bn1.bias, ...); "
        "give weights of squeezenet1_1"
    )


def test_wrong_shapes_are_named() -> None:
    state = blank(lambda: LeNet5(size=32)).state_dict()
    with pytest.raises(BadInput) as caught:
        fill(blank(lambda: LeNet5(size=40)), state, "lenet5", "w.pth")
    assert str(caught.value) == (
        "weights: w.pth: expected those of lenet5, got 1 keys of another shape "
        "(classifier.0.weight (120, 400) for (120, 784)); give weights of lenet5"
    )


# ---- folders ---------------------------------------------------------------------------------------------------------

RECIPE = """
arch = "lenet5"
data = "somewhere"
labels = ["cat", "dog", "cow"]
channels = 3
size = 40
mean = [0.1, 0.2, 0.3]
std = [0.4, 0.5, 0.6]
epochs = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "animals"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    safetensors.torch.save_file(drawn(lambda: LeNet5(3, 3, 40)).state_dict(), folder / "weights.safetensors")
    return folder


def test_a_trained_folder_opens_with_all_that_its_recipe_says(folder: Path) -> None:
    loaded = trained(folder)
    assert (loaded.labels, loaded.channels, loaded.weights) == (["cat", "dog", "cow"], 3, "weights.safetensors")
    assert (loaded.mean, loaded.std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert (loaded.resize.kind, loaded.resize.size) == ("squash", (40, 40))
    inputs = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.network(inputs), drawn(lambda: LeNet5(3, 3, 40))(inputs))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (None, "expected recipe.toml in it, got none; give a folder"),
        ("arch =", "expected TOML, got something else"),
        (RECIPE.replace('arch = "lenet5"', ""), "recipe.toml: recipe: expected the key 'arch', got none; add it"),
        (RECIPE.replace("size = 40", 'size = "big"'), "recipe.toml: recipe: size: input should be a valid integer"),
    ],
)
def test_a_folder_without_a_usable_recipe_is_refused(folder: Path, recipe: str | None, message: str) -> None:
    (folder / "recipe.toml").unlink()
    if recipe is not None:
        (folder / "recipe.toml").write_text(recipe)
    with pytest.raises(BadInput, match=message):
        trained(folder)


def test_a_recipe_of_an_unknown_architecture_is_refused(folder: Path) -> None:
    (folder / "recipe.toml").write_text(RECIPE.replace("lenet5", "lenet6"))
    with pytest.raises(UnknownName, match="unknown architecture 'lenet6'; did you mean lenet5"):
        trained(folder)


def test_an_unfinished_training_is_told_from_a_missing_one(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BadInput, match=r"expected weights.safetensors in it, got none; train it"):
        trained(folder)
    (folder / "checkpoint.pt").touch()
    with pytest.raises(BadInput, match="its training is not finished, run it again"):
        trained(folder)


# ---- hostile ---------------------------------------------------------------------------------------------------------


def compressed(path: Path) -> None:
    torch.save({"a": torch.zeros(20_000_000)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def repeated(path: Path) -> None:
    torch.save({"a": torch.zeros(1, dtype=torch.float16).expand(1000, 1000, 1000)}, path)


def repeated_before_archives(path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10_000, 100_000)}, path, _use_new_zipfile_serialization=False)


def shared(path: Path) -> None:
    one = torch.zeros(1_000_000, dtype=torch.float16)
    torch.save({f"layer{number}": one for number in range(500)}, path)


@pytest.mark.parametrize("make", [compressed, repeated, repeated_before_archives, shared])
def test_a_small_file_does_not_become_large(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Refused before anything of that size is in memory."""
    make(tmp_path / "bomb.pth")
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match=r"bomb\.pth: expected .* MiB"):
        read_state(tmp_path / "bomb.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024  # KiB


def test_half_precision_and_shared_weights_are_no_bombs(tmp_path: Path) -> None:
    one = torch.rand(400_000).half()
    torch.save({"encoder": one, "decoder": one, "head": one}, tmp_path / "w.pth")
    assert len(read_state(tmp_path / "w.pth")) == 3


@pytest.mark.parametrize("name", ["W.SAFETENSORS", "w.SafeTensors"])
def test_the_suffix_may_be_written_in_capitals(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(STATE, tmp_path / name)
    assert_same(dict(sorted(read_state(tmp_path / name).items())), dict(sorted(STATE.items())))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadInput, match="expected a weights file, got a pipe"):
        read_state(tmp_path / name)
    (tmp_path / "recipe.toml").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(BadInput, match=r"recipe\.toml"):
        trained(tmp_path)
