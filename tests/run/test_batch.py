"""The batch: shared facts, computed once, right, and on the images' device."""

from __future__ import annotations

import gc

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests import networks
from tests.run.methods import Activation, Gradient, LayerGradient
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import blend, blurred, fill_values
from xaikit.images.pixel_order import keep, ranks
from xaikit.methods.base import attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.context import Context

LAYER = Layer("conv2")


@pytest.fixture
def classifier():
    return Classifier(networks.seeded(networks.Stochastic, torch.float32), 0.5, 0.25)


def pixels(count: int = 3):
    return networks.images(count, dtype=torch.float32)


def test_each_fact_is_computed_once(classifier):
    context = Context()
    with classifier.borrowed():
        batch = Batch(classifier, pixels(), 1, context)
        activation, gradient = batch.activations_and_gradients(LAYER)
        for _ in range(2):
            assert batch.activations_and_gradients(LAYER)[1] is gradient
            assert batch.activations(LAYER) is activation
            assert batch.logits.shape == (3, networks.CLASSES)
            assert batch.scores.equal(batch.logits[:, 1])
            assert batch.probabilities.equal(batch.logits.softmax(1)[:, 1])
        assert (context.counters.forwards, context.counters.backwards) == (3, 3)
        other = Batch(classifier, pixels(), 1, Context())
        assert torch.allclose(other.activations(LAYER), activation)
        assert other.activations(LAYER) is other.activations(LAYER)
        assert other.context.counters.forwards == 3


def test_facts_carry_no_graph(classifier):
    with classifier.borrowed():
        batch = Batch(classifier, pixels(), None, Context())
        facts = [*batch.activations_and_gradients(LAYER), batch.input_gradients, batch.logits, batch.scores]
        assert not any(fact.requires_grad for fact in facts)


def test_input_gradients_equal_plain_autograd(classifier):
    with classifier.borrowed() as network:
        batch = Batch(classifier, pixels(), [0, 1, 2], Context())
        inputs = ((pixels() - 0.5) / 0.25).requires_grad_(True)
        score = network(inputs)[range(3), [0, 1, 2]].sum()
        expected = torch.autograd.grad(score, inputs)[0]
        assert torch.allclose(batch.input_gradients, expected, rtol=0, atol=1e-8)
        rows = torch.tensor([2, 0])
        scores, gradients = batch.score_gradients(inputs[rows], rows)
        assert torch.allclose(gradients, expected[rows], rtol=0, atol=1e-8)
        assert torch.allclose(scores, batch.scores[rows], atol=1e-6)


def test_a_network_without_gradient_is_refused():
    classifier = Classifier(networks.seeded(lambda: networks.Net(end=lambda z: (z > 0).float()), torch.float32))
    with classifier.borrowed():
        batch = Batch(classifier, pixels(), 0, Context())
        for gradients in (
            lambda: batch.activations_and_gradients(LAYER),
            lambda: batch.input_gradients,
            lambda: batch.score_gradients(batch.inputs),
        ):
            with pytest.raises(BadInput, match="expected a score with a gradient, got one without"):
                gradients()


def test_nan_weights_are_refused():
    classifier = Classifier(networks.seeded(networks.with_nan, torch.float32))
    for fact in ("logits", "input_gradients"):
        with pytest.raises(BadInput, match="got NaN or infinity for image 0; check its weights"), classifier.borrowed():
            getattr(Batch(classifier, pixels(), None, Context()), fact)


def test_draws_depend_on_the_image_alone(classifier):
    def draws(images, seed=0, purpose="noise"):
        batch = Batch(classifier, images, None, Context(seed=seed))
        return [torch.rand(2, generator=one).tolist() for one in batch.generators(purpose)]

    base = draws(pixels())
    assert draws(pixels().flip(0)) == base[::-1]
    assert draws(pixels()[1:2]) == base[1:2]
    assert draws(pixels(), seed=1) != base
    assert draws(pixels(), purpose="masks") != base


def test_pairs_are_packed_over_images(classifier):
    batch = Batch(classifier, pixels(), None, Context(chunk_size=4))
    found = list(batch.pairs(3, lambda rows, items: len(rows)))
    assert [size for _, _, size in found] == [4, 4, 1]
    assert torch.cat([rows for rows, _, _ in found]).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.cat([items for _, items, _ in found]).tolist() == [0, 1, 2] * 3


FACTORIES = {getattr(torch, name) for name in ("zeros", "ones", "full", "empty", "arange", "linspace", "tensor", "eye")}
FACTORIES |= {getattr(torch, name) for name in ("rand", "randn", "randint", "randperm", "as_tensor")}


class NamedDevices(TorchFunctionMode):
    """Refuses a tensor that is made without saying where."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in FACTORIES:
            assert kwargs.get("device") is not None, f"{func.__name__} without a device"
        return func(*args, **kwargs)


def test_no_tensor_is_made_on_the_default_device(classifier):
    methods = [LayerGradient(classifier, "conv2"), Activation(classifier, "conv2"), Gradient(classifier, noise=0.1)]
    network, images = networks.seeded(networks.Net, torch.float32), pixels()
    with NamedDevices():
        with pytest.raises(AssertionError, match="zeros without a device"):
            torch.zeros(1)
        Classifier(network, (0.5,) * 3, 0.25).outline()
        attribute_all(methods, images, [0, 1, 2], Context(chunk_size=2))
        attribute_all(methods, images, None, Context(chunk_size=2, precision="bfloat16"))
        with classifier.borrowed():
            batch = Batch(classifier, images, None, Context())
            list(batch.pairs(2, lambda rows, items: batch.scores_of(batch.inputs[rows], rows)))
            for fill in ("mean", "black", "white", "image-mean", "blur", "noise"):
                filled = fill_values(classifier.normalize, images, fill, batch.generators("fill"))
                order = ranks(images.mean(1))
                blend(batch.inputs, keep(order, 5, batch.size), filled)


def test_facts_are_made_where_the_images_are():
    """On the meta device, a tensor made elsewhere does not combine."""
    inputs = torch.zeros(2, 3, 8, 8, device="meta")
    masks = keep(ranks(inputs.mean(1)), torch.full((2,), 3, device="meta"), (8, 8))
    assert masks.device.type == "meta"
    assert blurred(inputs, 2.0).device.type == "meta"


@pytest.mark.slow
def test_fifty_calls_leave_no_tensor_behind(classifier):
    def run():
        methods = [LayerGradient(classifier, "conv2"), Activation(classifier, "conv2"), Gradient(classifier)]
        attribute_all(methods, pixels(1), None, Context())

    def alive() -> int:
        gc.collect()
        return sum(1 for one in gc.get_objects() if type(one) is torch.Tensor)

    run()
    before = alive()
    for _ in range(50):
        run()
    assert alive() == before


def test_pixels_given_for_every_image_are_cut_like_the_images(classifier):
    given = torch.rand(3, 1, 1, 1)
    batch = Batch(classifier, pixels()[1:3], None, Context(), slice(1, 3), 3)
    assert torch.equal(batch.own(given), given[1:3])
    assert batch.own("mean") == "mean"
    assert torch.equal(batch.own(given[:1]), given[:1])
    assert torch.equal(batch.own(given[:, 0]), given[:, 0])
    with pytest.raises(BadInput, match="expected pixels for 1 or 3 images, got 2; give one, or one per image"):
        batch.own(given[:2])
