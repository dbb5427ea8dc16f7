"""The context: portions, padding, precision, counting, and memory that runs out."""

from __future__ import annotations

import pytest
import torch

from tests import networks
from tests.run.methods import Gradient, LayerGradient
from xaikit.foundation.errors import BadInput
from xaikit.foundation.memory import free_memory, out_of_memory
from xaikit.methods.base import attribute_all
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context


@pytest.fixture
def classifier():
    return Classifier(networks.seeded(networks.Stochastic, torch.float32))


def pixels(count: int = 7):
    return networks.images(count, dtype=torch.float32)


@pytest.mark.parametrize("arguments", [{"chunk_size": 0}, {"chunk_size": -1}, {"precision": "float16"}])
def test_refused(arguments):
    with pytest.raises(BadInput, match=next(iter(arguments))):
        Context(**arguments)


def test_portions_cover_all_items_in_order():
    seen = []
    context = Context(progress=lambda done, total, unit: seen.append((done, total, unit)))
    assert list(context.portions(7, 3, lambda rows: (rows.start, rows.stop), "images")) == [(0, 3), (3, 6), (6, 7)]
    assert seen == [(3, 7, "images"), (6, 7, "images"), (7, 7, "images")]
    assert list(context.portions(0, 3, lambda rows: rows)) == []


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("can't allocate memory")])
def test_portions_are_halved_when_memory_runs_out(error):
    tried = []

    def work(rows):
        tried.append(rows.stop - rows.start)
        if tried[-1] > 2:
            raise error
        return rows.start, rows.stop

    context = Context()
    assert list(context.portions(10, 8, work)) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    assert context.halved


def test_one_image_is_not_halved():
    context = Context()

    def work(rows):
        raise torch.OutOfMemoryError("no")

    with pytest.raises(torch.OutOfMemoryError):
        list(context.portions(4, 1, work))
    assert not context.halved


def test_another_error_is_no_reason_to_halve():
    def work(rows):
        raise RuntimeError("a shape is wrong")

    with pytest.raises(RuntimeError, match="a shape is wrong"):
        list(Context().portions(4, 4, work))
    assert not out_of_memory(ValueError("shape"))
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"))


def test_halving_gives_the_same_answer_and_the_flag(classifier, monkeypatch):
    expected = LayerGradient(classifier, "conv2").attribute(pixels())
    assert not any(expected.flags)
    forward = Context.forward

    def small(self, classifier, inputs):
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("no")
        return forward(self, classifier, inputs)

    monkeypatch.setattr(Context, "forward", small)
    context = Context()
    found = LayerGradient(classifier, "conv2").attribute(pixels(), context=context)
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-4 * float(expected.values.abs().max()))
    assert found.flags == [{"halved"}] * 7
    again = LayerGradient(classifier, "conv2").attribute(pixels(2), context=context)
    assert again.flags == [set()] * 2
    assert context.halved


def test_counters_count_images(classifier):
    context = Context(chunk_size=3)
    attribute_all([LayerGradient(classifier, "conv2"), LayerGradient(classifier, "conv2")], pixels(), None, context)
    assert (context.counters.forwards, context.counters.backwards) == (7, 7)
    attribute_all([Gradient(classifier)], pixels(), None, context)
    assert (context.counters.forwards, context.counters.backwards) == (14, 14)


def test_bfloat16_is_near_and_float32_is_exact_inside_the_users_autocast(classifier):
    exact = LayerGradient(classifier, "conv2").attribute(pixels())
    rough = LayerGradient(classifier, "conv2").attribute(pixels(), context=Context(precision="bfloat16"))
    assert rough.values.dtype == torch.float32
    assert not torch.equal(rough.scores, exact.scores)
    assert torch.allclose(rough.scores, exact.scores, atol=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LayerGradient(classifier, "conv2").attribute(pixels())
    assert torch.equal(inside.values, exact.values)


def test_portion_follows_the_request_or_the_memory(classifier, monkeypatch):
    assert Context(chunk_size=5).portion(classifier, (8, 8)) == 5
    need = classifier.activation_bytes((8, 8))
    for free, expected in [(0, 1), (12 * need, 3), (10**6 * need, 64)]:
        monkeypatch.setattr("xaikit.run.context.free_memory", lambda device, free=free: free)
        assert Context().portion(classifier, (8, 8)) == expected
    monkeypatch.setattr("xaikit.run.context.free_memory", lambda device: 2**40)
    monkeypatch.setattr(type(classifier), "activation_bytes", lambda self, size: 2**29)
    assert Context().portion(classifier, (8, 8)) == 4, "more than 2 GiB of activations are not faster on a CPU"


def test_free_memory_is_positive():
    assert free_memory(torch.device("cpu")) > 0
