"""Methods that change the input against captum, shap and lime, on SqueezeNet with its weights and photographs.

Two packages that draw agree in the mean only. So each test takes the samples that theirs drew, or has theirs draw what
ours drew, and demands equal values; where the formulas differ, the test writes theirs out.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import xaikit
from tests.backends.cases import Case, case_of
from tests.backends.test_agreement import share_of_range
from xaikit.backends.default_features import squares
from xaikit.images.fills import segment_mean
from xaikit.methods.base import METHODS
from xaikit.methods.perturbation.kernel_shap import solve
from xaikit.methods.perturbation.lime import local_weights
from xaikit.methods.perturbation.segments import segment

pytestmark = [pytest.mark.backends, pytest.mark.real]

SIDE = 3  # squares a side
LENGTH = 112  # of the pictures


@pytest.fixture(scope="module")
def case(real_data: Path) -> Case:
    return case_of("squeezenet1_0", images=1, side=LENGTH)


@pytest.fixture(scope="module")
def numbers() -> Tensor:
    return squares((LENGTH, LENGTH), SIDE)


class Recorded(torch.nn.Module):
    """A classifier's score of one class, which remembers what kept squares it was asked for and what it said."""

    def __init__(self, case: Case, numbers: Tensor) -> None:
        super().__init__()
        self.case = case
        self.corners = torch.tensor([int((numbers.flatten() == one).nonzero()[0]) for one in range(SIDE**2)])
        self.clean = case.classifier.normalize(case.pixels).flatten(2)[0, 0, self.corners]
        self.kept: list[Tensor] = []
        self.scores: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.case.classifier.logits(inputs)
        self.kept.append(inputs.flatten(2)[:, 0, self.corners] == self.clean)
        self.scores.append(logits[:, int(self.case.target[0])])
        return logits

    @property
    def game(self) -> tuple[Tensor, Tensor]:
        """(s, M) bool and (s,) of all that was asked."""
        return torch.cat(self.kept), torch.cat(self.scores)


def test_kernel_shap_from_captums_samples(case: Case, numbers: Tensor) -> None:
    """captum draws sizes by the kernel, so that all weights are one, and fits with the ends weighted by a million."""
    from captum.attr import KernelShap

    recorded = Recorded(case, numbers)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - theirs draws from it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KernelShap(recorded).attribute(
            case.classifier.normalize(case.pixels),
            target=int(case.target[0]),
            feature_mask=numbers,
            n_samples=60,
            perturbations_per_eval=8,
        )
    kept, scores = recorded.game
    full, empty = scores[kept.all(1)][0], scores[~kept.any(1)][0]
    inner = kept.any(1) & ~kept.all(1)
    ones = torch.ones(int(inner.sum()), dtype=torch.float64)
    found = solve(kept[inner], ones, scores[inner], empty, full)
    assert share_of_range(found[numbers[0, 0]][None], theirs[:, 0]) <= 1e-3


def test_kernel_shap_from_all_coalitions_is_shaps(case: Case) -> None:
    """Six features, so that both enumerate; theirs without its choice of ten features."""
    from xaikit.backends.shap_perturbation import theirs

    numbers = (torch.arange(LENGTH) // 56)[:, None] * 3 + torch.arange(LENGTH) * 3 // LENGTH
    ours = METHODS.get("kernel-shap").build(case.classifier, segmentation=numbers)
    image = case.classifier.normalize(case.pixels)[0]

    def scores(kept: Any) -> Any:
        parts = torch.split(torch.from_numpy(kept).float(), 8)
        with torch.no_grad():
            found = [case.classifier.logits(image * part[:, None, numbers]) for part in parts]
        return torch.cat(found)[:, int(case.target[0])].double().numpy()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = theirs.KernelExplainer(scores, np.zeros((1, 6)))
        values = torch.from_numpy(explainer.shap_values(np.ones(6), nsamples=100, l1_reg=0, silent=True))
    assert share_of_range(ours.attribute(case.pixels, case.target).values, values[numbers][None]) <= 1e-5


def test_shapley_sampling_nears_captums_exact_values(real_data: Path) -> None:
    """Four squares, whose exact values captum has from all 24 orders; ours draws 300."""
    small, numbers = case_of("cifar-resnet20", 1), squares((32, 32), 2)
    ours = METHODS.get("shapley-sampling").build(small.classifier, segmentation=numbers[0, 0], samples=300)
    theirs = METHODS.get("captum/shapley-values").build(small.classifier, feature_mask=numbers)
    found, expected = (one.attribute(small.pixels, small.target).values for one in (ours, theirs))
    assert share_of_range(found, expected) <= 0.05


def test_lime_from_captums_samples(case: Case, numbers: Tensor) -> None:
    """captum's is another formula: lasso of the logit, weights by the cosine of the masked inputs, mean colour."""
    from captum.attr import Lime
    from sklearn.linear_model import Lasso

    recorded = Recorded(case, numbers)
    inputs = case.classifier.normalize(case.pixels)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Lime(recorded).attribute(
            inputs, target=int(case.target[0]), feature_mask=numbers, n_samples=40, perturbations_per_eval=8
        )
    kept, scores = recorded.game
    if len(kept) > 40:
        kept, scores = kept[-40:], scores[-40:]
    masked = inputs * kept[:, None, numbers[0, 0]]
    cosine = torch.nn.functional.cosine_similarity(masked.flatten(1), inputs.flatten(1))
    weights = torch.exp(-((1 - cosine) ** 2) / 2)
    fitted = Lasso(alpha=0.01).fit(kept.numpy(), scores.numpy(), sample_weight=weights.numpy())
    expected = torch.from_numpy(fitted.coef_).float()[numbers[0, 0]][None]
    assert share_of_range(expected, theirs[:, 0]) <= 1e-3
    ours, _ = local_weights(kept, scores)
    assert torch.corrcoef(torch.stack([ours[numbers[0, 0]].flatten(), theirs[0, 0].flatten()]))[0, 1] > 0.9
    assert share_of_range(ours[numbers[0, 0]][None], theirs[:, 0]) > 1e-3


def test_lime_is_the_authors_on_the_same_segments_and_samples(case: Case) -> None:
    """Theirs segments by quickshift and paints a segment in its mean colour; both are options or defaults of ours."""
    ours = METHODS.get("lime").build(case.classifier, samples=150, segmentation="slic", segments=30)
    found = ours.attribute(case.pixels, case.target)
    labels = segment(case.pixels, "slic", 30)
    count = int(labels.max()) + 1
    from xaikit.foundation.identity import generators
    from xaikit.images.hashes import image_hashes

    (stream,) = generators(0, image_hashes(case.pixels), "lime")
    drawn = torch.rand(150, count, generator=stream) < 0.5
    drawn[0] = True
    weights = by_the_authors(case, labels, drawn)
    assert share_of_range(found.values, weights[labels[0]][None]) <= 1e-4


def by_the_authors(case: Case, labels: Tensor, drawn: Tensor) -> Tensor:
    from lime.lime_image import LimeImageExplainer

    class Same:
        def randint(self, *_: int, **__: int) -> Any:
            return drawn.long().numpy().ravel()

    def predict(pictures: Any) -> Any:
        with torch.no_grad():
            return case.classifier.probabilities(torch.from_numpy(pictures).permute(0, 3, 1, 2)).numpy()

    index = int(case.target[0])
    explainer = LimeImageExplainer(random_state=0)
    explainer.random_state = Same()
    explained = explainer.explain_instance(
        case.pixels[0].permute(1, 2, 0).numpy(),
        predict,
        labels=(index,),
        top_labels=None,
        num_samples=len(drawn),
        segmentation_fn=lambda picture: labels[0].numpy(),
        random_seed=0,
    )
    weights = torch.zeros(drawn.shape[1])
    for number, weight in explained.local_exp[index]:
        weights[number] = weight
    return weights


@pytest.mark.parametrize(("fill", "side"), [("mean", LENGTH), ("inpaint", 224)])
def test_partition_is_shaps_on_pictures(real_data: Path, fill: str, side: int) -> None:
    """The same budget, hierarchy and order; theirs splits channels only below one pixel, which no budget reaches.

    Theirs inpaints in 8 bits, which weighs more in a small picture.
    """
    case = case_of("squeezenet1_0", 1, side)
    clf = case.classifier
    found = METHODS.get("partition-shap").build(clf, samples=80, fill=fill).attribute(case.pixels, case.target)
    mean = (clf.mean.reshape(1, 1, 3).expand(side, side, 3) * 255).double().numpy()
    options = {"max_evals": 80, "batch_size": 10}
    theirs = METHODS.get("shap/partition-explainer").build(
        clf, masker=mean if fill == "mean" else "inpaint_telea", **options
    )
    expected = theirs.attribute(case.pixels, case.target)
    assert share_of_range(found.values, expected.values) <= (1e-4 if fill == "mean" else 0.05)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("lime/lime-image-explainer", {"num_samples": 12, "segmentation_fn": lambda picture: quarters()}),
        ("shap/kernel-explainer", {"nsamples": 200}),
        ("shap/partition-explainer", {"max_evals": 20, "masker": 114.0}),
    ],
)
def test_theirs_by_name(case: Case, name: str, params: dict[str, Any]) -> None:
    import xaikit.backends.shap_perturbation  # noqa: F401 - registers the names of shap

    method = METHODS.get(name).build(case.classifier, **params)
    found = method.attribute(case.pixels, case.target)
    assert found.values.shape == (1, LENGTH, LENGTH)
    assert found.values.isfinite().all()
    assert float(found.values.abs().max()) > 0
    assert torch.equal(method.attribute(case.pixels, case.target).values, found.values)


def quarters() -> Any:
    return squares((LENGTH, LENGTH), 2)[0, 0].numpy()


def test_the_mean_colour_of_a_segment_is_theirs(case: Case) -> None:
    """lime paints with means of float64; ours to float32."""
    labels = segment(case.pixels, "slic", 30)
    found = segment_mean(case.pixels, labels)[0]
    picture = case.pixels[0].double()
    for number in (0, 7):
        inside = labels[0] == number
        assert torch.allclose(found[:, inside][:, 0].double(), picture[:, inside].mean(1), atol=1e-6)


def test_rise_is_reproducible_and_finds_what_the_network_sees(case: Case) -> None:
    """No other package has it: its map keeps more probability than its reverse does."""
    method = METHODS.get("rise").build(case.classifier, samples=200)
    found = method.attribute(case.pixels, case.target)
    assert torch.equal(method.attribute(case.pixels, case.target).values, found.values)
    curves = [
        xaikit.keep_curve(case.classifier, case.pixels, maps, case.target, levels=4, mask="binary").auc().mean()
        for maps in (found.values, 1 - found.values)
    ]
    assert curves[0] > curves[1]
