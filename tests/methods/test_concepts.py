"""Deep feature factorisation: concepts of a layer, their maps and what classes they speak for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xaikit
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.methods.activation.concepts import factorised
from xaikit.run.context import Context


def planted() -> tuple[Tensor, Tensor]:
    """Return W (40, 3) and H (3, 7); each concept is alone at some positions and in some channels."""
    stream = torch.Generator().manual_seed(3)
    maps = torch.rand(40, 3, generator=stream, dtype=torch.float64)
    channels = torch.rand(3, 7, generator=stream, dtype=torch.float64)
    maps[:9] = torch.eye(3, dtype=torch.float64).repeat_interleave(3, 0)
    channels[:, :3] = torch.eye(3, dtype=torch.float64)
    return maps, channels


def test_planted_concepts_are_found() -> None:
    maps, channels = planted()
    found, patterns, rest = factorised(maps @ channels, 3)
    assert rest < 1e-5
    likeness = torch.corrcoef(torch.cat([maps, found], 1).T)[:3, 3:]
    assert sorted(likeness.argmax(1).tolist()) == [0, 1, 2]
    assert float(likeness.amax(1).min()) > 0.999
    assert torch.equal(found.amax(0), torch.ones(3, dtype=torch.float64))
    size = found.norm(dim=0) * patterns.norm(dim=1)
    assert bool((size.diff() <= 0).all()), "sorted by how much they hold"


def test_one_concept_is_the_leading_pair_of_singular_vectors() -> None:
    matrix = planted()[0] @ planted()[1]
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    found, patterns, rest = factorised(matrix, 1)
    expected = sizes[0] * left[:, :1] @ right[:1]
    assert float((found @ patterns - expected).abs().max()) < 1e-6 * float(expected.max())
    assert rest == pytest.approx(1 - float(sizes[0] ** 2 / (sizes**2).sum()), abs=1e-9)


def test_scores_are_the_linear_head_on_the_concept() -> None:
    clf, x = bound(GAPNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3]), images(4)
    activations = clf.network.relu(clf.network.conv2(clf.network.conv1(clf.normalize(x)).relu())).detach()
    found = xaikit.concepts(clf, x, 3)
    assert torch.allclose(found.scores, clf.network.fc(found.channels).detach(), atol=1e-12)
    assert torch.equal(found.maps.amax((0, 2, 3)), torch.ones(3, dtype=torch.float64))
    rest = (activations - torch.einsum("nkhw,kc->nchw", found.maps, found.channels)).square().sum()
    assert found.rest == pytest.approx(float(rest / activations.square().sum()), rel=1e-6)
    assert float(found.maps.min()) >= 0 <= float(found.channels.min())
    assert (found.layer, found.heatmaps().shape) == ("relu", (4, 3, 8, 8))
    alone = xaikit.concepts(clf, x, 3, context=Context(chunk_size=1))
    assert torch.allclose(alone.maps, found.maps, atol=1e-9)
    deep = bound(DeepNet())
    held = xaikit.concepts(deep, x, 2)
    everywhere = held.channels[:, :, None, None].expand(2, 5, 4, 4).flatten(1)
    assert torch.allclose(held.scores, deep.network.head(everywhere).detach(), atol=1e-12)


@pytest.mark.slow
def test_a_figure_shows_every_concept_of_every_image() -> None:
    found = xaikit.concepts(bound(GAPNet()), images(2), 2)
    figure = found.plot()
    assert len(figure.axes) >= 2 * 3
    assert figure.pixels.std() > 0
    assert found.plot(limit=1).pixels.shape[0] < figure.pixels.shape[0]
    assert [title.split(":")[0] for title in found.titles()] == ["1", "2"]
    assert repr(found).startswith("Concepts(2 at relu in 2 images; ")


class Beside(nn.Module):
    """What passes beside the layer reaches the head."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.left(x), self.right(x)], 1).mean((2, 3)))


def test_what_cannot_be_factorised_is_refused() -> None:
    clf, x = bound(GAPNet()), images(2)
    with pytest.raises(xaikit.BadInput, match=r"'conv2': expected activations of zero or more.* that ends in"):
        xaikit.concepts(clf, x, 2, layer="conv2")
    with pytest.raises(xaikit.BadInput, match=r"count: expected 1 to 5 concepts for 32 positions of 5 channels, got 6"):
        xaikit.concepts(clf, x, 6)
    with pytest.raises(xaikit.BadInput, match="at least one image"):
        xaikit.concepts(clf, x[:0])
    with pytest.raises(xaikit.BadInput, match="logits that also depend on what passes beside it"):
        xaikit.concepts(bound(Beside()), x, 2, layer="left")
    with torch.no_grad():
        clf.network.conv2.weight.zero_()
        clf.network.conv2.bias.fill_(-1)
    with pytest.raises(xaikit.BadInput, match="got zeros only"):
        xaikit.concepts(clf, x, 2)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.backends
def test_agrees_with_the_peer_on_photographs(real_data: Path) -> None:
    """pytorch-grad-cam's factorisation, which begins at random, ends at the same concepts of these photographs."""
    clf = xaikit.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.pth")
    names = ["n02110806_basenji", "n02279972_monarch", "n03444034_go-kart", "n07753275_pineapple"]
    x = clf.read([real_data / "imagenet" / f"{name}.jpg" for name in names])
    found = xaikit.concepts(clf, x, 3)
    their_maps, their_rest = _of_peer(clf, x, 3)
    likeness = np.corrcoef(found.maps.permute(1, 0, 2, 3).flatten(1).numpy(), their_maps)[:3, 3:]
    assert sorted(likeness.argmax(1).tolist()) == [0, 1, 2]
    assert likeness.max(1).min() > 0.99
    assert found.rest < 1.001 * their_rest


def _of_peer(clf: xaikit.Classifier, x: Tensor, count: int) -> tuple[np.ndarray, float]:
    """Return the peer's maps (K, N h w) and the share of the squared activations that it leaves out."""
    dff = pytest.importorskip("pytorch_grad_cam.feature_factorization.deep_feature_factorization").dff
    with torch.no_grad():
        activations = clf.network.features(clf.normalize(x)).numpy()
    concepts, maps = dff(activations, count)
    rest = activations - np.einsum("ck,nkhw->nchw", concepts, maps)
    return maps.transpose(1, 0, 2, 3).reshape(count, -1), float((rest**2).sum() / (activations**2).sum())
