"""A part of the forward without a gradient flags the maps that need one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.networks import Activated, GAPNet, bound, images
from tests.networks.disguised import RELUS, Checkpointed, OwnRelu
from tests.networks.variants import seeded
from xaikit.api import attribute, attribute_many
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.batch import Batch
from xaikit.run.context import Context


@torch.no_grad()
def gate(x: Tensor) -> Tensor:
    return torch.sigmoid(x).mean((2, 3), keepdim=True)


@torch.no_grad()
def spectrum(x: Tensor) -> Tensor:
    return torch.fft.fft2(x)


def pairs(x: Tensor) -> Tensor:
    return torch.stack([x - 0.1, x], -1)


CODES = torch.linspace(0, 1, 9)

CUTTING: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "detached gate": (lambda x: x * torch.sigmoid(x).detach(), "detach"),
    "detached mean": (lambda x: x - x.detach().mean((2, 3), keepdim=True), "detach"),
    "data": (lambda x: x + F.relu(x.data), "__get__"),
    "gate without a graph": (lambda x: x * gate(x), "sigmoid"),
    "rounded branch": (lambda x: x + (x * 8).round() / 8, "round"),
    "scale as a number": (lambda x: x / x.detach().abs().max().item(), "item"),
    "scale as a float": (lambda x: x / float(x.detach().std()), "float"),
    "by NumPy": (lambda x: x + torch.from_numpy(x.detach().numpy()), "numpy"),
    "straight through": (lambda x: x + (x.sign() - x).detach(), "detach"),
    "canvas": (lambda x: canvas(x, lambda y, z: y.__setitem__(slice(None), z)), "detach"),
    "a row of a canvas": (lambda x: canvas(x, lambda y, z: y[:, 1].copy_(z[:, 1])), "detach"),
    "canvas by add_": (lambda x: canvas(x, lambda y, z: y.add_(z)), "detach"),
    "canvas by +=": (lambda x: canvas(x, lambda y, z: y.__iadd__(z)), "detach"),
    "canvas as out": (lambda x: canvas(x, lambda y, z: torch.mul(z, 2, out=y)), "detach"),
    "into a tensor with a graph": (lambda x: written_into(x.clone(), x.detach().square()), "detach"),
    "behind the graph": (lambda x: halved(x.clone()), "mul"),
    "behind the graph by function": (lambda x: rectified(x - 0.1), "relu"),
    "behind the graph by data": (lambda x: scaled_data(x.clone()), "mul"),
    "behind the graph by detach": (lambda x: scaled_detached(x.clone()), "mul"),
    "integers": (lambda x: (x * 8).int().to(x.dtype) / 8, "int"),
    "long integers": (lambda x: x + (x * 8).to(torch.int64) / 8, "to"),
    "fraction": (torch.frac, "frac"),
    "remainder": (lambda x: x % 0.1, "remainder"),
    "sign": (torch.sign, "sign"),
    "sign times a number": (lambda x: x.sign() * 0.3, "sign"),
    "bytes": (lambda x: (x * 8).byte() / 8, "byte"),
    "characters": (lambda x: (x * 8).char().to(x.dtype) / 8, "char"),
    "buckets": (lambda x: torch.bucketize(x.contiguous(), torch.linspace(0, 1, 9).to(x)) / 8, "bucketize"),
    "places among levels": (lambda x: torch.searchsorted(torch.linspace(0, 1, 9).to(x), x.contiguous()) / 8, "searchs"),
    "nearest code": (lambda x: x + CODES.to(x)[(x[..., None] - CODES.to(x)).abs().argmin(-1)], "argmin"),
    "ranks": (lambda x: x.argsort(-1).argsort(-1).to(x.dtype) / 8, "argsort"),
    "quantised": (lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8).dequantize().to(x), "quantize"),
    "quotient without a rest": (lambda x: torch.div(x, 0.1, rounding_mode="floor"), "div"),
    "quotient cut off": (lambda x: x.div(0.1, rounding_mode="trunc"), "div"),
    "one of two values": (lambda x: torch.where(x > 0.1, 1.0, -1.0).to(x.dtype), "gt"),
    "mask as a number": (lambda x: x + (x > 0.1).to(x.dtype) * 0.3, "gt"),
    "mask added": (lambda x: x + (x > 0.1), "gt"),
    "copied sign": (lambda x: torch.copysign(torch.ones_like(x), x - 0.1), "sign"),
    "class of each position": (lambda x: F.one_hot(x.argmax(1), x.shape[1]).movedim(3, 1).to(x.dtype), "argmax"),
    "levels as a factor": (lambda x: x * (x * 8).int(), "int"),
    "spectrum without a graph": (lambda x: torch.fft.ifft2(spectrum(x)).real, "fft_fft2"),
    "detached spectrum": (lambda x: torch.fft.ifft2(torch.fft.fft2(x).detach()).real, "detach"),
    "detached phase": (lambda x: torch.polar(x.abs(), torch.view_as_complex(pairs(x).detach()).angle()).real, "detach"),
    "by dlpack": (lambda x: x + torch.from_numpy(np.from_dlpack(x.detach()).copy()), "dlpack"),
    "as an array": (lambda x: torch.from_numpy(np.asarray(x.detach())).square(), "array"),
}


def canvas(x: Tensor, write: Callable[[Tensor, Tensor], object]) -> Tensor:
    blank = torch.zeros_like(x)
    write(blank, x.detach().square())
    return blank


def written_into(x: Tensor, part: Tensor) -> Tensor:
    x[:, :2] = part[:, :2]
    return x


@torch.no_grad()
def halved(x: Tensor) -> Tensor:
    return x.mul_(0.5)


@torch.no_grad()
def rectified(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)


def scaled_data(x: Tensor) -> Tensor:
    x.data[:, 1:] *= 2
    return x + 0


def scaled_detached(x: Tensor) -> Tensor:
    x.detach().mul_(2)
    return x + 0


WHOLE: dict[str, Callable[[Tensor], Tensor]] = RELUS | {
    "signed root": lambda x: x.sign() * (x.abs() + 1e-3).sqrt(),
    "size by sign": lambda x: x * torch.sign(x),
    "written with its graph": lambda x: canvas_with_graph(x),
    "mean of a mask's positions": lambda x: x * (x > 0.1) / (x > 0.1).sum((2, 3), keepdim=True).clamp_min(1),
    "mask of integers": lambda x: x * (x > 0.1).int().unsqueeze(-1).squeeze(-1),
    "selected by index": lambda x: x.flatten(2).sort(-1).values.view_as(x) + x.gather(1, x.argsort(1)),
    "filled by a mask": lambda x: x.masked_fill(x > 0.3, 0.3),
    "row by row": lambda x: torch.stack([image.square() for image in x]),
    "spectrum and back": lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real,
    "index of the largest": lambda x: x * (x.detach().argmax(1, keepdim=True) == 1).long(),
    "positions": lambda x: x + torch.linspace(0, 1, x.shape[-1]).mul(4).floor().to(x),
    "copy of a mask": lambda x: x * (x.detach() > 0).clone(),
    "blank": lambda x: x + torch.zeros_like(x),
    "own function": OwnRelu.apply,
    "watched": lambda x: x if x.detach().abs().sum() > 0 else -x,
    "largest": lambda x: x.gather(1, x.argmax(1, keepdim=True)).expand_as(x),
}


def canvas_with_graph(x: Tensor) -> Tensor:
    blank = torch.zeros_like(x)
    blank[:, 1:] = x[:, 1:].square()
    return blank


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.filterwarnings("ignore:Activated mixes the images")  # a scale of the whole batch
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("form", list(CUTTING))
def test_a_cut_beside_the_main_path_is_named_and_flagged(form: str, count: int) -> None:
    function, name = CUTTING[form]
    clf, x = bound(Activated(F.relu, lambda x: F.relu(x) + function(x))), images(count)
    found = METHODS.get("saliency")(clf).attribute(x, 1)
    assert all("cut-gradient" in flags for flags in found.flags)
    assert bool(found.values.any())
    assert not METHODS.get("occlusion")(clf).attribute(x, 1).flags[0] - {"mixes-images"}
    with clf.borrowed():
        assert any(found.startswith(name.strip("_")) for found in Batch(clf, x, 1, Context()).trace(None).names)


@pytest.mark.parametrize("form", list(WHOLE))
def test_a_graph_without_cuts_has_no_flag(form: str) -> None:
    clf = bound(Activated(F.relu, lambda x: F.relu(x) + WHOLE[form](x)))
    for method in (METHODS.get("saliency")(clf), METHODS.get("hires-cam")(clf, layer="conv1")):
        assert method.attribute(images(2), 1).flags == [set()] * 2


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_checkpoint_is_no_cut() -> None:
    for reentrant in (False, True):
        clf = Classifier(seeded(lambda kind=reentrant: Checkpointed(kind)).double(), size=8)
        assert METHODS.get("saliency")(clf).attribute(images(2), 1).flags == [set()] * 2


def packed(levels: int, x: Tensor) -> Tensor:
    """Return a branch of which the backward reads numbers rounded to some levels; with none they stay as they are."""

    def pack(saved: Tensor) -> tuple[Tensor, Tensor]:
        step = saved.abs().amax() / levels if levels else torch.ones(())
        return (saved / step).round() if levels else saved, step

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda stored: stored[0] * stored[1]):
        return F.gelu(x).square()


@pytest.mark.parametrize("levels", [0, 1, 10**9])
def test_a_backward_from_packed_tensors_is_compared_with_finite_differences(levels: int) -> None:
    clf = bound(Activated(lambda x: packed(levels, x)))
    for method in (METHODS.get("saliency")(clf), METHODS.get("hires-cam")(clf, layer="conv1")):
        assert method.attribute(images(1), 1).flags == [{"gradient-not-derivative"} if levels == 1 else set()]


class Bright(GAPNet):
    """Takes another way for bright images, and one by one."""

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for image in x.split(1):
            first = F.relu(self.conv1(image))
            squares = first.square()
            parts.append(first + (squares.detach() if image.mean() > 0.5 else squares))
        return self.fc(F.relu(self.conv2(torch.cat(parts))).mean((2, 3)))


@pytest.mark.parametrize("name", ["saliency", "integrated-gradients", "guided-backprop"])
def test_the_flag_follows_the_images_at_hand_in_any_order(name: str) -> None:
    clf, dark = bound(Bright()), images(2) / 2
    bright = dark + 0.5
    for x, flagged in [(dark, False), (bright, True), (dark, False), (bright, True)]:
        params = {"steps": 4} if name == "integrated-gradients" else {}
        found = METHODS.get(name)(clf, **params).attribute(x, 1, chunk_size=1)
        assert ["cut-gradient" in flags for flags in found.flags] == [flagged] * 2


def test_the_flag_follows_the_network_as_it_is_now() -> None:
    network = Activated(F.relu, F.relu)
    clf, x = bound(network), images(2)
    for _ in range(2):
        assert METHODS.get("saliency")(clf).attribute(x, 1).flags == [set()] * 2
        network.second = lambda x: F.relu(x) + x.detach().square()
        assert METHODS.get("saliency")(clf).attribute(x, 1).flags == [{"cut-gradient"}] * 2
        network.second = F.relu


class Buffered(GAPNet):
    """Writes into a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(64, 6, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv1(x))
        self.memory[: len(x)] = first.detach().square()
        return self.fc(self.relu(self.conv2(first + self.memory[: len(x)])).mean((2, 3)))


@pytest.mark.parametrize("count", [1, 3])
def test_a_write_into_a_buffer_is_a_cut(count: int) -> None:
    clf = bound(Buffered())
    for name in ("saliency", "smooth-grad", "full-grad"):
        assert all("cut-gradient" in flags for flags in METHODS.get(name)(clf).attribute(images(count), 1).flags)


def test_a_cut_before_the_layer_leaves_the_gradient_at_the_layer_whole() -> None:
    cut_before = bound(Activated(lambda x: F.relu(x) + x.detach().square(), F.relu))
    assert METHODS.get("hires-cam")(cut_before, layer="conv2").attribute(images(2), 1).flags == [set()] * 2
    assert METHODS.get("hires-cam")(cut_before, layer="conv1").attribute(images(2), 1).flags == [{"cut-gradient"}] * 2
    fused = METHODS.get("layer-cam")(cut_before, layer="conv2", shallower="conv1").attribute(images(2), 1)
    assert fused.flags == [{"cut-gradient"}] * 2
    many = attribute_many(cut_before, images(2), 1, ["saliency", "hires-cam"], layer="conv2")
    assert many["saliency"].flags == [{"cut-gradient"}] * 2
    assert many["hires-cam"].flags == [set()] * 2


@pytest.mark.parametrize("name", ["saliency", "hires-cam", "guided-backprop", "full-grad"])
def test_the_forward_that_gives_the_gradient_is_enough(name: str) -> None:
    network = GAPNet()
    clf = bound(network)
    clf.outline((8, 8))
    seen: list[int] = []
    network.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    for runs in (1, 2):
        METHODS.get(name)(clf).attribute(images(3), 1)
        assert seen == [3] * runs


class Counting(TorchFunctionMode):
    """Counts the calls that it sees."""

    seen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        Counting.seen += 1
        return func(*args, **(kwargs or {}))


class Inside(nn.Module):
    """Calls a layer inside a mode, and perhaps the rest too."""

    def __init__(self, rest: bool) -> None:
        super().__init__()
        self.stem, self.conv, self.fc, self.rest = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4), rest

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        with Counting():
            x = self.conv(x)
            if self.rest:
                return self.fc(x.mean((2, 3)).detach() + x.mean((2, 3)))
        return self.fc(x.mean((2, 3)).detach() + x.mean((2, 3)))


def test_a_mode_of_the_network_neither_hides_a_cut_nor_stays():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 12, 12)
    outside = attribute(Classifier(Inside(rest=False), size=12), x, 0, "grad-cam", layer="stem")
    assert all("cut-gradient" in flags for flags in outside.flags)
    for rest in (False, True):
        with pytest.raises(BadInput, match="layer 'conv': expected to be called outside of a TorchFunctionMode"):
            attribute(Classifier(Inside(rest), size=12), x, 0, "grad-cam", layer="conv")
    before = Counting.seen
    torch.rand(2)
    assert Counting.seen == before


def stretched(x: Tensor) -> Tensor:
    y = x.detach()
    return (y - y.amin()) / (y.amax() - y.amin())


def levelled(x: Tensor) -> Tensor:
    return torch.round(x * 8) / 8


def smooth(x: Tensor) -> Tensor:
    return torch.tanh(x * 2)


def elsewhere(x: Tensor) -> Tensor:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(spectrum, x).result().abs() / 8


def slope(x: Tensor, graph: bool) -> Tensor:
    with torch.enable_grad():
        start = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(start.pow(3).sum(), start, create_graph=graph)[0]


@cache
def traced_levels() -> Any:
    return torch.jit.trace(levelled, torch.rand(1, 5, 8, 8, dtype=torch.float64))


HIDDEN_CUTS = {
    "scripted": lambda x: torch.jit.script(stretched)(x),
    "rounded in a script": lambda x: torch.jit.script(levelled)(x),
    "traced": lambda x: traced_levels()(x),
    "in a thread": elsewhere,
    "in a map": torch.vmap(lambda x: torch.tanh(2 * x.detach())),
    "of a gradient": lambda x: slope(x, graph=False),
}
HIDDEN = {
    "scripted": lambda x: torch.jit.script(smooth)(x),
    "in a map": torch.vmap(lambda x: torch.tanh(2 * x)),
    "of a gradient": lambda x: slope(x, graph=True),
}


@pytest.mark.filterwarnings("ignore:Activated mixes the images", "ignore:`torch.jit")
@pytest.mark.parametrize("form", HIDDEN_CUTS)
@pytest.mark.parametrize("name", ["saliency", "guided-backprop", "hires-cam"])
def test_a_cut_in_hidden_code_is_found_by_the_score(name: str, form: str) -> None:
    traced_levels()
    clf = bound(Activated(F.relu, lambda x: F.relu(x) + 3 * HIDDEN_CUTS[form](x)))
    params = {"layer": "conv2"} if name == "hires-cam" else {}
    for flags in METHODS.get(name)(clf, **params).attribute(images(2), 1).flags:
        assert "gradient-not-derivative" in flags


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("form", HIDDEN)
@pytest.mark.parametrize("name", ["saliency", "hires-cam"])
def test_hidden_code_with_its_gradient_has_no_flag(name: str, form: str) -> None:
    clf = bound(Activated(F.relu, lambda x: F.relu(x) + 3 * HIDDEN[form](x)))
    params = {"layer": "conv2"} if name == "hires-cam" else {}
    assert METHODS.get(name)(clf, **params).attribute(images(2), 1).flags == [set()] * 2


SCALE = torch.linspace(1, 2, 8, dtype=torch.float64)
CONSTANTS = {
    "of a closure": lambda: SCALE,
    "from NumPy in each forward": lambda: torch.from_numpy(np.linspace(1, 2, 8)),
}


@pytest.mark.parametrize("constant", CONSTANTS.values(), ids=CONSTANTS)
def test_constants_are_no_hidden_code(constant: Callable[[], Tensor]) -> None:
    network = Activated(F.relu, lambda x: F.relu(x) * constant())
    clf = bound(network)
    clf.outline((8, 8))
    seen: list[int] = []
    network.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    assert METHODS.get("saliency")(clf).attribute(images(2), 1).flags == [set()] * 2
    assert seen == [2]
    assert "cut-gradient" not in METHODS.get("lrp")(clf).attribute(images(1), 1).flags[0]


@pytest.mark.filterwarnings("ignore:Activated mixes the images", "ignore:`torch.jit")
@pytest.mark.parametrize("form", ["scripted", "in a thread"])
def test_relevance_that_hidden_code_cuts_off_is_flagged(form: str) -> None:
    clf = bound(Activated(F.relu, lambda x: F.relu(x) + 3 * HIDDEN_CUTS[form](x.detach())))
    assert "cut-gradient" in METHODS.get("lrp")(clf).attribute(images(1), 1).flags[0]
