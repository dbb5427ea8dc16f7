"""LIME: what its linear model must recover, and the authors' package on the same segments and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.methods.replicas.perturbation import QUARTERS, shares, summed
from tests.networks import DeepNet, LinearNet, bound, images
from xaikit.methods.base import METHODS
from xaikit.methods.perturbation.lime import local_weights


def kept(samples: int = 60, segments: int = 5) -> Tensor:
    drawn = torch.rand(samples, segments, generator=torch.Generator().manual_seed(0)) < 0.5
    drawn[0] = True
    return drawn


def test_an_additive_score_is_recovered() -> None:
    clf, x = bound(LinearNet()), images(2)
    options = {"samples": 60, "segmentation": QUARTERS, "fill": "mean", "score": "logit", "alpha": 1e-10}
    found = METHODS.get("lime").build(clf, **options).attribute(x, 2)
    assert torch.allclose(found.values, summed(shares(clf, x, 2), QUARTERS), atol=1e-7)
    assert torch.allclose(found.diagnostics["fit"], torch.ones(2))
    assert found.diagnostics["segments"].tolist() == [4, 4]


def test_a_constant_changes_nothing_and_a_strong_penalty_leaves_nothing() -> None:
    drawn = kept()
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights, _ = local_weights(drawn, scores)
    assert torch.allclose(local_weights(drawn, scores + 5)[0], weights, atol=1e-9)
    assert float(local_weights(drawn, scores, alpha=1e9)[0].abs().max()) < 1e-6
    assert float(weights.abs().max()) > 0.01


def test_the_image_itself_weighs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    from lime.lime_base import LimeBase

    seen: list[Any] = []
    plain = LimeBase.explain_instance_with_data

    def watched(self: Any, data: Any, labels: Any, distances: Any, *args: Any, **options: Any) -> Any:
        seen.append((data, self.kernel_fn(distances)))
        return plain(self, data, labels, distances, *args, **options)

    monkeypatch.setattr(LimeBase, "explain_instance_with_data", watched)
    drawn = kept()
    drawn[1] = False
    local_weights(drawn, torch.rand(60))
    data, weights = seen[0]
    assert weights[0] == weights.max() == 1
    assert np.isclose(weights[1], np.sqrt(np.exp(-1 / 0.25**2)))
    assert all(np.diff(weights[np.argsort(data.sum(1))]) >= -1e-12)


def test_the_authors_package_on_the_same_segments_and_samples() -> None:
    """Theirs picks the features by an almost unpenalised fit before the last one, but keeps all of them."""
    from lime.lime_image import LimeImageExplainer

    clf, x = bound(DeepNet()), images(1)
    drawn = kept(80, 4)

    class Same:
        """Draws what ours drew."""

        def randint(self, *_: int, **__: int) -> Any:
            return drawn.long().numpy().ravel()

    def predict(pictures: Any) -> Any:
        return clf.probabilities(torch.from_numpy(pictures).permute(0, 3, 1, 2)).detach().numpy()

    explainer = LimeImageExplainer(random_state=0)
    explainer.random_state = Same()
    theirs = explainer.explain_instance(
        x[0].permute(1, 2, 0).numpy(),
        predict,
        labels=(1,),
        top_labels=None,
        num_samples=80,
        segmentation_fn=lambda picture: QUARTERS.numpy(),
        random_seed=0,
    )
    weights = torch.zeros(4, dtype=torch.float64)
    for number, weight in theirs.local_exp[1]:
        weights[number] = weight
    colours = torch.stack([x[0][:, number == QUARTERS].mean(1) for number in range(4)], 1)[:, QUARTERS]
    scores = clf.probabilities(torch.where(drawn[:, None, QUARTERS], x[0], colours))[:, 1].detach()
    found, fit = local_weights(drawn, scores)
    assert torch.allclose(found, weights, atol=1e-8)
    assert fit == pytest.approx(theirs.score)


def test_samples_are_the_images_own() -> None:
    clf, x = bound(DeepNet()), images(3)
    method = METHODS.get("lime").build(clf, samples=30, segments=4)
    found = method.attribute(x, 1)
    assert torch.allclose(method.attribute(x[[2, 0]], 1).values, found.values[[2, 0]], atol=1e-10)
    assert not torch.equal(method.attribute(x, 1, seed=1).values, found.values)
