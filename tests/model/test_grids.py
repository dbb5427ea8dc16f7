"""Grids: a layer's output is brought to (N, C, h, w) and back by what a forward shows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xaikit
from tests.networks.tokens import CLASSES, ORDERS, WIDTH, Blind, ChannelsLast, Tokens, seeded
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, LayerMethod
from xaikit.model.coordinates import layouts

SIZE = (16, 24)
METHODS_OF_LAYERS = [
    name
    for name in METHODS.names()
    if issubclass(METHODS.get(name), LayerMethod) and METHODS.get(name).family == "activation"
]
FORMS = {
    "class token": {},
    "no other token": {"before": 0, "reads": "mean"},
    "class token and mean": {"reads": "mean"},
    "distillation": {"before": 2, "reads": "both"},
    "registers": {"before": 5},
    "registers at the end": {"before": 1, "after": 4},
    "attention by hand": {"fused": False},
    **{f"{order} order": {"order": order} for order in ORDERS},
}


def some_fast(values, *fast):
    """The values as parameters, those that are not named slow."""
    return [pytest.param(value, marks=[] if value in fast else pytest.mark.slow) for value in values]


def pixels(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def maps(network, layer, method, **options):
    classifier = xaikit.Classifier(network, mean=0, size=SIZE)
    options |= {"libra-cam": {"references": 4}, "shapley-cam": {"utility": "score"}}.get(method, {})
    return xaikit.attribute(classifier, pixels(), 1, method, layer=layer, **options)


@pytest.mark.parametrize("name", some_fast(FORMS, "class token", "distillation", "class token and mean"))
def test_the_default_layer_is_the_last_that_carries_all_patches(name):
    form = FORMS[name]
    classifier = xaikit.Classifier(seeded(lambda: Tokens(SIZE, **form)), size=SIZE)
    assert classifier.layer == ("norm" if form.get("reads") == "mean" else "blocks.2.norm1")
    assert classifier.layers()[classifier.layer] == (WIDTH, 4, 6)


@pytest.mark.parametrize("name", some_fast(FORMS, "registers at the end", "windows order"))
@pytest.mark.parametrize("method", ["grad-cam", "score-cam", "ablation-cam"])
def test_tokens_are_explained_as_the_maps_they_are(method, name):
    form = FORMS[name]
    found = maps(seeded(lambda: Tokens(SIZE, **form)), "blocks.2.norm1", method)
    expected = maps(seeded(lambda: Tokens(SIZE, **form, emit=2)), "emit", method)
    assert found.values.shape == (2, 4, 6)
    assert found.values.abs().amax() > 0
    assert torch.allclose(found.values, expected.values, rtol=1e-6, atol=1e-12)
    assert "misplaced-grid" not in found.flags[0]


@pytest.mark.parametrize("method", some_fast(METHODS_OF_LAYERS, "grad-cam", "ablation-cam", "cam", "relevance-cam"))
@pytest.mark.parametrize("reads", ["class", "mean"])
@pytest.mark.slow
def test_every_activation_method_explains_tokens_as_maps(method, reads):
    layer, emit = ("blocks.2.norm1", 2) if reads == "class" else ("norm", -1)
    networks = [seeded(lambda emit=emit: Tokens(SIZE, reads=reads, emit=emit)) for emit in (None, emit)]
    results = []
    for network, name in zip(networks, (layer, "emit"), strict=True):
        try:
            results.append(maps(network, name, method).values)
        except BadInput as error:
            results.append(str(error).replace(name, "it"))
    if isinstance(results[1], str):
        assert results[0] == results[1]
        assert method in ("cam", "relevance-cam", "shapley-cam")  # fused attention has no second derivative
    else:
        assert torch.allclose(*results, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", some_fast(METHODS_OF_LAYERS, "grad-cam", "cam", "ablation-cam", "relevance-cam"))
def test_every_activation_method_explains_channels_last_as_maps(method):
    network = seeded(lambda: ChannelsLast(method == "relevance-cam"))
    found, expected = maps(network, "last", method), maps(network, "emit", method)
    assert found.values.abs().amax() > 0
    assert torch.allclose(found.values, expected.values, rtol=1e-6, atol=1e-12)


def test_layer_cam_fuses_tokens_of_several_blocks():
    network = seeded(lambda: Tokens(SIZE, emit=1))
    both = maps(network, "blocks.2.norm1", "layer-cam", shallower="emit")
    again = maps(network, "blocks.2.norm1", "layer-cam", shallower="blocks.1.norm1")
    assert torch.allclose(both.values, again.values)


def test_tokens_of_no_position_come_back_untouched():
    network = seeded(lambda: Tokens(SIZE, before=2, after=1))
    layer = xaikit.Classifier(network, size=SIZE).resolve_layer("blocks.1")
    output = torch.randn(1, 2 + 24 + 1, WIDTH)
    assert torch.equal(layer.changed(output, lambda maps: maps), output)
    changed = layer.changed(output, lambda maps: torch.zeros(3, *maps.shape[1:]))
    assert changed.shape == (3, *output.shape[1:])
    assert not changed[:, 2:-1].any()
    assert torch.equal(changed[:, :2], output[:, :2].expand(3, -1, -1))
    assert torch.equal(changed[:, -1:], output[:, -1:].expand(3, -1, -1))


def test_there_and_back_for_every_layer_that_has_a_grid():
    for network in (seeded(lambda: Tokens(SIZE)), seeded(ChannelsLast)):
        for (name, _), grid in layouts(network, pixels(1)).items():
            output = torch.randn(3, *grid.shape)
            assert grid.of(output).shape == (3, *grid.maps), name
            assert torch.equal(grid.put(grid.of(output), output), output)


class Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.numpy()[:, ::-1].copy())

    @staticmethod
    def backward(ctx, gradient):
        return gradient.flip(1)


def overwritten(x):
    """Every second token in the place of the one before it, written through a view."""
    result = x.clone()
    result[:, ::2].copy_(x[:, 1::2])
    return result


HIDES = {
    "sorted by what they hold": lambda x: x.gather(1, x.mean(2, keepdim=True).argsort(1).expand_as(x)),
    "the largest first": lambda x: x[:, x[0].norm(dim=1).argsort()],
    "overwritten through a view": overwritten,
    "a custom function": Through.apply,
    "tokens dropped": lambda x: x[:, :-1],
    "tokens pooled in pairs of a row and the next": lambda x: x.unflatten(1, (-1, 16)).mean(2),
    "tokens mixed": lambda x: torch.einsum("ntc,st->nsc", x, torch.eye(96).flip(0).to(x)),
    "sorted": lambda x: x.sort(1)[0],
    "rolled and added": lambda x: x + x.roll(1, 1),
    "spectrum": lambda x: torch.fft.fft(x, dim=1).real,
    "twice each": lambda x: x.repeat_interleave(2, 1),
}


@pytest.mark.parametrize("hide", HIDES.values(), ids=HIDES)
def test_a_layer_whose_positions_are_not_known_is_refused(hide):
    classifier = xaikit.Classifier(seeded(lambda: Blind(hide)), size=SIZE)
    assert "hidden" not in classifier.layers()
    with pytest.raises(BadInput, match=r"layer 'hidden': expected a grid of positions .* give one of: embed"):
        xaikit.attribute(classifier, pixels(), 0, "grad-cam", layer="hidden")
    with pytest.raises(BadInput, match="no default target layer in Blind; give one of: embed"):
        _ = classifier.layer


def test_pictures_of_another_size_have_another_grid():
    network = seeded(ChannelsLast)
    classifier = xaikit.Classifier(network, mean=0)
    for height, width in ((16, 24), (24, 16), (8, 8)):
        x = torch.rand(1, 3, height, width, dtype=torch.float64)
        assert xaikit.attribute(classifier, x, 0, "grad-cam").values.shape == (1, height // 4, width // 4)
    layer = classifier.resolve_layer("last")
    with pytest.raises(BadInput, match=r"layer: expected outputs \(N, .*\), got \(1, 7, 5, 12\)"):
        layer.to_grid(torch.zeros(1, 7, 5, WIDTH))


def test_a_head_of_zeros_reads_nothing_so_there_is_no_default():
    network = seeded(lambda: Tokens(SIZE))
    nn.init.zeros_(network.head.weight)
    with pytest.raises(BadInput, match=r"no default target layer in Tokens; give one of: .*blocks\.2"):
        _ = xaikit.Classifier(network, size=SIZE).layer


class Scores(Tokens):
    """The head on each token, then the mean: its output holds the class scores."""

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)).mean(1)


def test_scores_of_each_token_are_stepped_over():
    classifier = xaikit.Classifier(seeded(lambda: Scores(SIZE)), size=SIZE)
    assert classifier.layer == "norm"
    assert classifier.layers()["head"] == (CLASSES, 4, 6)


class Planted(nn.Module):
    """A class token that attends to the red patches and takes what it finds there: the map has to show the red patch.

    The embedding gives the mean colour of each patch, the attention a weight exp(20 red), the value is red.
    """

    def __init__(self, order: str, registers: int) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 3, 4, 4), nn.Identity()
        with torch.no_grad():
            self.embed.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4) / 16)
            self.embed.bias.zero_()
        self.order, self.registers = order, registers

    def forward(self, x):
        maps = self.embed(x)
        patches = maps.flatten(2).transpose(1, 2)[:, ORDERS[self.order](*maps.shape[2:])]
        tokens = self.norm(torch.cat([patches.new_zeros(len(x), 1 + self.registers, 3), patches], 1))
        weights = (20 * tokens[:, :, 0]).softmax(1)
        red = (weights * tokens[:, :, 0]).sum(1)
        return torch.stack([red, -red], 1)


@pytest.mark.parametrize(
    "method",
    some_fast(["hires-cam", "grad-cam", "layer-cam", "eigen-cam", "score-cam", "ablation-cam"], "hires-cam"),
)
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("order", some_fast(ORDERS, "column by column", "snake"))
def test_the_planted_patch_is_found(order, registers, method):
    cells = [(0, 0), (0, 5), (3, 0), (3, 5), (1, 4)]
    x = torch.zeros(len(cells), 3, *SIZE, dtype=torch.float64)
    for image, (row, column) in zip(x, cells, strict=True):
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    classifier = xaikit.Classifier(Planted(order, registers).double().eval(), mean=0, size=SIZE)
    found = xaikit.attribute(classifier, x, 0, method, layer="norm")
    assert [divmod(int(values.argmax()), 6) for values in found.values.flatten(1)] == cells


@pytest.mark.parametrize(
    "method", ["lrp", "contrastive-lrp", "softmax-gradient-lrp", "rap", "excitation-backprop", "relevance-cam"]
)
@pytest.mark.parametrize(("fused", "operation"), [(True, "scaled_dot_product_attention"), (False, "matmul")])
@pytest.mark.slow
def test_relevance_stops_at_attention_by_name(method, fused, operation):
    classifier = xaikit.Classifier(seeded(lambda: Tokens(SIZE, fused=fused)), mean=0, size=SIZE)
    with pytest.raises(BadInput, match=f"expected operations that have a rule, got .*{operation}"):
        xaikit.attribute(classifier, pixels(1), 0, method)


def test_tokens_of_a_part_of_the_picture_are_flagged():
    class Cropped(Tokens):
        def forward(self, x):
            return super().forward(torch.nn.functional.pad(x, (0, 0, 0, -8)))

    network = seeded(lambda: Cropped(SIZE))
    for height, flagged in ((SIZE[0] + 8, True), (SIZE[0], False)):
        made = network if flagged else seeded(lambda: Tokens(SIZE))
        classifier = xaikit.Classifier(made, mean=0, size=(height, SIZE[1]))
        x = torch.rand(1, 3, height, SIZE[1], dtype=torch.float64)
        assert ("misplaced-grid" in xaikit.attribute(classifier, x, 0, "grad-cam").flags[0]) == flagged
