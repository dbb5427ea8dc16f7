"""Targets: whatever the user says becomes indices, names and a hash."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xaikit.foundation.errors import BadInput, UnknownName
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
    ],
)
def test_a_callable_that_needs_the_whole_batch_is_refused(function):
    with pytest.raises(BadInput, match="expected a callable that scores each row on its own"):
        resolved(function)


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
