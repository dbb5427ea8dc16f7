"""Targets: whatever the user says becomes indices, names and a hash."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xaikit.foundation.errors import BadInput, UnknownName, XaikitWarning
from xaikit.model.target import Contrast, check_target, resolve_target, target_rows

LABELS = ["tabby cat", "Egyptian cat", "golden_retriever", "cattle", "crane", "crane"]
LOGITS = torch.tensor([[1.0, 5.0, 2.0, 0.0, 3.0, 4.0], [9.0, 5.0, 2.0, 0.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 7.0, 6.0]])


def resolved(target, labels=LABELS):
    return resolve_target(target, LOGITS, labels)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [1, 0, 4]),
        (2, [2, 2, 2]),
        (np.int64(2), [2, 2, 2]),
        (torch.tensor(2), [2, 2, 2]),
        (np.array(2), [2, 2, 2]),
        ("2", [2, 2, 2]),
        ("Golden Retriever", [2, 2, 2]),
        ("golden_retriever", [2, 2, 2]),
        ("retriever", [2, 2, 2]),
        ("tab", [0, 0, 0]),
        ([0, 5, 1], [0, 5, 1]),
        ((0, "cattle", np.int32(1)), [0, 3, 1]),
        (range(3), [0, 1, 2]),
        (torch.tensor([3, 2, 1], dtype=torch.int32), [3, 2, 1]),
        (np.array([3, 2, 1]), [3, 2, 1]),
        (SimpleNamespace(category=4), [4, 4, 4]),
        ([SimpleNamespace(category=4), 1, 0], [4, 1, 0]),
    ],
)
def test_index(target, expected):
    found = resolved(target)
    assert found.index.dtype == torch.int64
    assert found.index.tolist() == expected
    assert found.names == tuple(LABELS[place] for place in expected)
    assert torch.equal(found.score(LOGITS), LOGITS[range(3), expected])
    assert torch.equal(found.pick(LOGITS.softmax(1)), LOGITS.softmax(1)[range(3), expected])


def test_whole_words_go_before_parts():
    assert resolved("cat", ["cat fish", "cattle", "concatenation"]).index.tolist() == [0, 0, 0]


def test_a_label_of_digits_goes_before_an_index():
    assert resolved("3", ["9", "8", "3", "1", "0", "2"]).index.tolist() == [2, 2, 2]
    assert resolved("4", ["9", "8", "3", "1", "0", "2"]).index.tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (6, "from 0 to 5, got 6"),
        (-1, "from 0 to 5, got -1"),
        ("-1", "from 0 to 5, got -1"),
        ([0, 1], "expected 3 entries, one per image, got 2"),
        (np.zeros(4, dtype=int), "expected 3 entries, one per image, got 4"),
        (torch.zeros(5, dtype=torch.long), "expected 3 entries, one per image, got 5"),
        (torch.zeros(3), r"use target\.long\(\)"),
        (torch.ones(3, dtype=torch.bool), r"use target\.long\(\)"),
        (np.zeros(3), "got float"),
        ([torch.tensor(1.5), 0, 0], "got Tensor"),
        (True, "got bool"),
        (1.0, "got float"),
        ({1: 2}, "got dict"),
        ([[1], [2], [3]], "got list"),
        ("crane", "matches 2 labels .4 'crane', 5 'crane'.; give the index"),
        ("cat", "matches 2 labels .0 'tabby cat', 1 'Egyptian cat'."),
        (lambda logits: logits, r"expected a callable \(3, 6\) -> \(3,\), got \(3, 6\)"),
        (lambda logits: 3, "got int"),
    ],
)
def test_refused(target, reason):
    with pytest.raises(BadInput, match=reason) as caught:
        resolved(target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["tabbi cat", "²", "--5", "zebra"])
def test_a_label_that_fits_none(label):
    with pytest.raises(UnknownName, match="unknown label"):
        resolved(label)


def test_near_labels_are_offered():
    with pytest.raises(UnknownName, match="did you mean golden_retriever"):
        resolved("golden retreiver")


def test_a_label_without_labels():
    with pytest.raises(BadInput, match="the model has no labels"):
        resolved("cat", None)
    assert resolved(2, None).names == ("class 2",) * 3


def test_contrast():
    found = resolved(Contrast("cattle", [0, 1, 2]))
    assert torch.equal(found.score(LOGITS), LOGITS[:, 3] - LOGITS[range(3), [0, 1, 2]])
    assert found.names[0] == "cattle against tabby cat"
    runner_up = resolved(Contrast())
    assert runner_up.index.tolist() == [1, 0, 4]
    assert runner_up.against.tolist() == [5, 1, 5]
    with pytest.raises(BadInput, match="needs two classes"):
        resolve_target(Contrast(0), torch.zeros(2, 1))


def entropy(logits):
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def test_callable():
    found = resolved(entropy)
    assert torch.equal(found.score(LOGITS), entropy(LOGITS))
    assert found.names == ("entropy",) * 3
    assert found.index.tolist() == [1, 0, 4]


@pytest.mark.parametrize(
    "function",
    [
        lambda logits: logits.gather(1, torch.tensor([[0], [1], [2]]))[:, 0],
        lambda logits: logits[torch.arange(3), torch.tensor([0, 1, 2])],
        lambda logits: logits[:, 0] - logits[:, 0].mean(),
        lambda logits: logits[:, 0] - logits.max(),
        lambda logits: logits[:, 0] - logits.median(),
        lambda logits: logits[:, 0] * torch.arange(1, len(logits) + 1),
        lambda logits: logits[:3, 0],
        lambda logits: logits[0, 0].expand(len(logits)),
        lambda logits: -torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2]), reduction="none"),
    ],
)
def test_a_callable_that_needs_the_whole_batch_is_refused(function):
    with pytest.raises(BadInput, match="expected a callable that scores each row on its own") as caught:
        resolved(function)
    assert "\n" not in str(caught.value)


LABEL = torch.tensor([1])


@pytest.mark.parametrize(
    "function",
    [
        lambda logits: logits.gather(1, LABEL[:, None])[:, 0],
        lambda logits: logits[:1, 1],
        lambda logits: logits[0, 1:2],
        lambda logits: logits[range(1), LABEL],
        lambda logits: logits[0, 1].expand(len(logits)),
        lambda logits: logits[-1, 1].expand(len(logits)),
        lambda logits: logits[:, 1] - logits.max(),
        lambda logits: logits[:, 1] - logits.min(),
        lambda logits: logits[:, 1] - logits.mean(),
        lambda logits: logits[:, 1] - logits[:, 1].median(),
        lambda logits: logits[:, 1] - logits[:, 1].quantile(0.5),
        lambda logits: logits[:, 1] / logits.norm(),
        lambda logits: logits.softmax(0)[:, 1],
        lambda logits: logits[:, 1] * len(logits),
        lambda logits: -torch.nn.functional.cross_entropy(logits, LABEL, reduction="none"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_callable_for_one_image_alone_is_refused(function, scale):
    with pytest.raises(BadInput, match="expected a callable that scores each row on its own") as caught:
        resolve_target(function, LOGITS[:1] * scale)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [
        entropy,
        lambda logits: logits[:, 1] - logits[:, [0, 2, 3]].logsumexp(1),
        lambda logits: logits[:, 1] - logits.mean(1),
        lambda logits: (logits[:, 1] + 1e3).tanh(),
        lambda logits: logits[:, 1] * 0,
        lambda logits: logits[torch.arange(len(logits)), LABEL.expand(len(logits))],
        lambda logits: -torch.nn.functional.cross_entropy(logits, LABEL.expand(len(logits)), reduction="none"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_callable_that_scores_each_row(function, count, dtype):
    logits = LOGITS[:count].to(dtype) * 7
    assert torch.equal(resolve_target(function, logits).score(logits), function(logits))


def scaled_in_place(logits):
    score = logits[:, 1]
    score /= 4
    return score


def margin_in_place(logits):
    own = logits[:, 1].clone()
    logits[:, 1] = -1e9
    return own - logits.amax(1)


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (scaled_in_place, lambda logits: logits[:, 1] / 4),
        (margin_in_place, lambda logits: logits[:, 1] - logits[:, [0, 2, 3, 4, 5]].amax(1)),
        (lambda logits: logits.mul_(0.5).sigmoid()[:, 1], lambda logits: (logits[:, 1] / 2).sigmoid()),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_callable_may_overwrite_its_logits(function, plain, count):
    logits = LOGITS[:count].clone().double().requires_grad_(True)
    found = resolve_target(function, logits.detach())
    score = found.score(logits)
    assert torch.allclose(score, plain(logits), rtol=1e-12)
    (gradient,) = torch.autograd.grad(score.sum(), logits)
    (right,) = torch.autograd.grad(plain(logits).sum(), logits)
    assert torch.allclose(gradient, right, rtol=1e-12)
    assert torch.equal(found.confidence(logits, "softmax"), score)
    assert torch.equal(logits, LOGITS[:count].double())


def test_a_callable_is_checked_whenever_it_is_called():
    """One that changes after it was resolved, or whose shape depends on the values, is no score either."""
    calls = []

    def tired(logits):
        calls.append(len(logits))
        return logits[:, 1] if len(calls) < 3 else logits[:1, 1]

    found = resolved(tired)
    with pytest.raises(BadInput, match=r"expected a callable \(4, 6\) -> \(4,\), got \(1,\)"):
        found.score(torch.zeros(4, 6))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda logits: logits[:, 9], "got IndexError: index 9 is out of bounds"),
        (lambda logits: logits @ torch.ones(5), "got RuntimeError: "),
        (lambda logits: logits.missing, "got AttributeError: "),
        (lambda logits, other: other, "got TypeError: "),
        (lambda logits: logits[:, 1] > 0, r"got \(3,\) torch.bool"),
        (lambda logits: logits.argmax(1), r"got \(3,\) torch.int64"),
    ],
)
def test_a_callable_that_fails(function, reason):
    with pytest.raises(BadInput, match=reason) as caught:
        resolved(function)
    assert "\n" not in str(caught.value)


def test_hash_names_what_is_explained():
    class Entropy:
        def __call__(self, logits):
            return entropy(logits)

    same = [
        (1, [1, 1, 1]),
        ("cattle", 3),
        (entropy, entropy),
        (Entropy(), Entropy()),
        (Contrast(1), Contrast([1, 1, 1])),
    ]
    for one, other in same:
        assert resolved(one).hash == resolved(other).hash
    targets = [1, 2, Contrast(1), Contrast(1, 3), entropy, Entropy(), lambda z: z[:, 1], lambda z: z[:, 2]]
    assert len({resolved(target).hash for target in targets}) == len(targets)
    assert resolved(partial(entropy)).hash


@pytest.mark.parametrize("target", [[0, 1, 2], Contrast([0, 1, 2], [2, 0, 1]), entropy])
def test_take_selects_and_repeats(target):
    whole = resolved(target)
    rows = torch.tensor([2, 0, 0, 1])
    assert torch.equal(whole.take(rows).score(LOGITS[rows]), whole.score(LOGITS)[rows])
    assert whole.take(rows).names == tuple(whole.names[row] for row in rows)
    assert torch.equal(whole.take(slice(1, 3)).score(LOGITS[1:]), whole.score(LOGITS)[1:])
    assert whole.take(slice(1, 3)).names == whole.names[1:]


@pytest.mark.parametrize(
    "target", [None, 2, "cattle", [0, 1, 2], np.array([0, 1, 2]), torch.tensor([0, 1, 2]), Contrast(None, [0, 2, 1])]
)
def test_portions_of_a_target_equal_the_whole(target):
    checked = check_target(target, 3)
    parts = [resolve_target(target_rows(checked, slice(i, i + 1)), LOGITS[i : i + 1], LABELS) for i in range(3)]
    whole = resolved(target)
    assert torch.cat([part.index for part in parts]).equal(whole.index)
    assert torch.cat([part.score(LOGITS[i : i + 1]) for i, part in enumerate(parts)]).equal(whole.score(LOGITS))


@pytest.mark.parametrize("target", [[0, 1], np.array([0, 1]), Contrast(0, [1, 2]), torch.tensor([1, 2])])
def test_a_wrong_length_is_refused_before_it_is_cut(target):
    with pytest.raises(BadInput, match="expected 3 entries"):
        check_target(target, 3)


def test_what_stands_for_the_score_in_probabilities():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    shares = logits.softmax(1)
    assert torch.equal(resolve_target(2, logits).confidence(logits, "softmax"), shares[:, 2])
    contrast = resolve_target(Contrast(2, 0), logits)
    assert torch.allclose(contrast.confidence(logits, "softmax"), shares[:, 2] / (shares[:, 2] + shares[:, 0]))
    assert torch.equal(resolve_target(lambda z: -z[:, 1], logits).confidence(logits, "softmax"), -logits[:, 1])


def test_two_classes_of_one_logit_are_the_choice_between_them():
    """By the probabilities themselves: p_1 / (p_0 + p_1) of a sigmoid is p_1, as of a softmax over [-z / 2, z / 2]."""
    z = torch.tensor([[-1.5], [0.2], [3.0]])
    contrast = resolve_target(Contrast(1, 0), torch.cat([-z, z], 1))
    assert torch.allclose(contrast.confidence(torch.cat([-z, z], 1), "binary"), z.sigmoid()[:, 0])
    softmax = resolve_target(Contrast(1, 0), torch.cat([-z, z], 1) / 2).confidence(torch.cat([-z, z], 1) / 2, "softmax")
    assert torch.allclose(softmax, z.sigmoid()[:, 0])


def test_a_class_against_itself_is_refused_or_warned_of():
    for contrast in (Contrast(2, 2), Contrast([0, 3, 1], ["cattle", 3, "tabby cat"]), Contrast("retriever", 2)):
        with pytest.raises(BadInput, match=r"expected two classes to compare, got (golden_retriever|cattle) against"):
            resolved(contrast)
    with pytest.warns(XaikitWarning, match="got crane against itself for 1 images, whose scores are 0"):
        found = resolved(Contrast(None, 4))  # the top class of one image
    assert found.against_itself == [False, False, True]
    assert resolved(Contrast(4, None)).against_itself == resolved(3).against_itself == [False] * 3
