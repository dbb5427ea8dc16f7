"""What of a network's output are the logits: segmentation, side outputs, embeddings, detectors."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import images, seeded
from xaikit.api import attribute
from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier

CLASSES = 4


class Ways(nn.Module):
    """Features (N, 6), logits (N, 4), a class map (N, 4, 8, 8) and scores (N, 4, 4, 4), as `way` gives them."""

    def __init__(self, way: Any = None) -> None:
        super().__init__()
        self.body, self.relu, self.head, self.way = nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, CLASSES, 1), way

    def forward(self, x: Tensor) -> Any:
        maps = self.relu(self.body(x))
        scores = self.head(maps)
        segments = F.interpolate(scores, x.shape[2:], mode="bilinear")
        found = SimpleNamespace(features=maps.mean((2, 3)), pred=scores.mean((2, 3)), segments=segments, scores=scores)
        return self.way(found) if self.way else found.pred


def classifier(way: Any, select: Any = None, **arguments: Any) -> Classifier:
    return Classifier(seeded(lambda: Ways(way), torch.float32), 0.5, 0.25, 8, select=select, **arguments)


def x(count: int = 2) -> Tensor:
    return images(count, dtype=torch.float32)


def pred() -> Tensor:
    result: Tensor = classifier(None)(x())
    return result


@pytest.mark.parametrize(
    ("way", "select"),
    [
        (lambda out: (out.features, out.pred), 1),
        (lambda out: [out.features, out.pred], -1),
        (lambda out: {"pred": out.pred, "features": out.features}, "pred"),
        (lambda out: {0: out.features, 1: out.pred}, 1),
        (lambda out: out, "pred"),
        (lambda out: (out.scores, {"a": out.pred}), lambda out: out[1]["a"]),
        (lambda out: out.scores, lambda out: out.mean((2, 3))),
    ],
)
def test_one_part_of_the_output(way: Any, select: Any) -> None:
    clf = classifier(way, select)
    assert torch.allclose(clf(x()), pred(), atol=1e-6)
    assert clf.layer == "relu"
    found, expected = (attribute(c, x(), method="grad-cam", target=1).values for c in (clf, classifier(None)))
    assert bool(expected.any())
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (lambda out: (out.scores, out.pred), r"a tuple of \(1, 4, 4, 4\), \(1, 4\); say which .*select=1"),
        (lambda out: {"pred": out.pred, "features": out.features}, "select='pred'"),
        (lambda out: {"out": out.segments}, r"select=lambda out: out\['out'\]\.mean\(\(2, 3\)\)"),
        (lambda out: (out.segments,), r"select=lambda out: out\[0\]\.mean\(\(2, 3\)\)"),
        (lambda out: out.segments, r"select=lambda out: out\.mean\(\(2, 3\)\)"),
        (lambda out: out, "got SimpleNamespace; set select="),
    ],
)
def test_what_is_not_sure_is_refused_with_select(way: Any, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        classifier(way)(x())


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        ("segment", r"a dict with segments \(1, 4, 8, 8\), got KeyError: 'segment'"),
        (3, "KeyError: 3"),
        ("segments", r"expected logits \(N, K\), got \(1, 4, 8, 8\).*out\['segments'\]\.mean"),
        (lambda out: out["segments"].argmax(1).sum((1, 2)), "int64"),
        (lambda out: out["segments"].tolist(), "got a list"),
        (lambda out: out.segments, "AttributeError"),
    ],
)
def test_a_selection_that_gives_no_logits_is_one_line(select: Any, reason: str) -> None:
    with pytest.raises(BadInput, match=f"^select: .*{reason}") as told:
        classifier(lambda out: {"segments": out.segments}, select)(x())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("select", [1.5, True, ["logits"]])
def test_what_is_no_selection(select: Any) -> None:
    with pytest.raises(BadInput, match="select: expected a key, an index or a callable, got"):
        classifier(None, select)


def test_a_tensor_has_no_index() -> None:
    with pytest.raises(BadInput, match=r"select: expected an output that has 0, got a tensor \(1, 4\)"):
        classifier(None, 0)(x())


def segments(x: Tensor) -> Tensor:
    network = seeded(lambda: Ways(lambda out: out.segments), torch.float32).eval()
    result: Tensor = network((x - 0.5) / 0.25)
    return result


def test_segmentation_by_the_mean_over_a_region_and_over_the_predicted_mask() -> None:
    def way(out: Any) -> Any:
        return {"out": out.segments}

    region = torch.zeros(8, 8, dtype=torch.bool)
    region[1:4, 2:7] = True
    predicted = segments(x())[0].argmax(0) == 1
    assert bool(predicted.any())
    assert not bool(predicted.all())
    for mask in (region, predicted):
        clf = classifier(way, lambda out, mask=mask: out["out"][..., mask].mean(-1))
        assert torch.allclose(clf(x()), segments(x())[..., mask].mean(-1), atol=1e-6)
        pixels = x().requires_grad_()
        (expected,) = torch.autograd.grad(segments(pixels)[..., mask].mean(-1)[:, 1].sum(), pixels)
        found = attribute(clf, x(), method="saliency", target=1).values
        assert torch.allclose(found, (expected * 0.25).abs().amax(1), rtol=1e-4)


def test_an_embedding_by_its_likeness_to_a_reference_image() -> None:
    def way(out: Any) -> Any:
        return out.features

    network = seeded(lambda: Ways(way), torch.float32).eval()
    other = (images(3, dtype=torch.float32)[2:] - 0.5) / 0.25
    reference = network(other).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = classifier(way, lambda out: F.cosine_similarity(out, reference)[:, None], output="regression")
        likeness = clf(torch.cat([x(), images(3, dtype=torch.float32)[2:]]))
    assert torch.allclose(likeness[2], torch.ones(1), atol=1e-6)
    expected = F.cosine_similarity(network((x() - 0.5) / 0.25), reference)
    assert torch.allclose(likeness[:2, 0], expected, atol=1e-6)
    occluded = attribute(clf, x(), method="occlusion", target=0).values
    assert occluded.isfinite().all()
    assert bool(occluded.any())


def test_a_detector_by_the_best_score_of_each_class() -> None:
    def way(out: Any) -> Any:
        boxes = out.scores.flatten(2).transpose(1, 2)
        return [{"labels": scores.argmax(1), "scores": scores.amax(1)} for scores in boxes]

    def best(out: Any) -> Tensor:
        def of(found: Any, label: int) -> Tensor:
            scores: Tensor = found["scores"][found["labels"] == label]
            return torch.cat([scores, scores.new_full((1,), -9.0)]).amax()

        return torch.stack([torch.stack([of(found, label) for label in range(CLASSES)]) for found in out])

    network = seeded(lambda: Ways(way), torch.float32).eval()
    clf = classifier(way, best)
    assert torch.allclose(clf(x()), best(network((x() - 0.5) / 0.25)), atol=1e-6)
    top = int(clf(x(1)).argmax())
    assert bool(attribute(clf, x(1), method="saliency", target=top).values.any())


def test_the_fingerprint_follows_the_selection_and_what_it_uses() -> None:
    def over(mask: Tensor) -> Any:
        return lambda out: out["out"][..., mask].mean(-1)

    def way(out: Any) -> Any:
        return {"out": out.segments, "pred": out.pred}

    first = torch.eye(8, dtype=torch.bool)
    selections = ["pred", over(first), over(~first), lambda out: out["out"].mean((2, 3))]
    found = [classifier(way, select).fingerprint for select in selections]
    assert len(set(found)) == 4
    assert found == [classifier(way, select).fingerprint for select in selections]
    assert classifier(way, over(first.clone())).fingerprint == found[1]


@pytest.mark.slow
def test_the_segmentation_network_of_torchvision() -> None:
    from torchvision.models.segmentation import fcn_resnet50

    network = seeded(lambda: fcn_resnet50(weights=None, weights_backbone=None, num_classes=5), torch.float32).eval()
    clf = Classifier(network, 0.5, 0.25, 64, select=lambda out: out["out"].mean((2, 3)))
    assert clf.layer == "classifier.2"
    kept: list[Tensor] = []
    network.classifier[2].register_forward_hook(lambda module, inputs, output: kept.append(output))
    pixels = images(1, size=64, dtype=torch.float32)
    logit = network((pixels - 0.5) / 0.25)["out"].mean((2, 3))[0, 1]
    (gradient,) = torch.autograd.grad(logit, kept[0])
    expected = (kept[0] * gradient.mean((2, 3), keepdim=True)).sum(1).relu().detach()
    found = attribute(clf, pixels, method="grad-cam", target=1).values
    assert bool(expected.any())
    assert torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.max()))
