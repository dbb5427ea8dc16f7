"""shap: its gradient explainers of PyTorch modules.

    values = explainer(model of one class, background).shap_values(image)        (1, C, H, W), summed over channels

Included: DeepExplainer (DeepLIFT averaged over a background) and GradientExplainer (expected gradients). shap explains
every output of a model in turn, a thousand times the work; here it sees a model with the explained class only. Each
image is explained separately with the same seed, so that it does not depend on the batch.

Defaults for parameters that shap leaves open:
    data     synthetic images of images/references.py, normalised
    rseed    the seed of the run

In-place ReLUs break shap's hooks and are switched to out-of-place on the copy. DeepExplainer recognises modules by
class name and treats functions as linear. Where its values miss the difference they should sum to by more than 1 %, it
raises; with `check_additivity=False` the images are flagged `incomplete` instead. The gap is in `completeness`.

KernelExplainer and PartitionExplainer are in shap_perturbation.py. Left out: explainers of tabular features.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xaikit.backends import shap_perturbation  # noqa: F401 - its explainers register themselves
from xaikit.backends.foreign_method import Guest, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters
from xaikit.extend import InputMethod, Need, Values
from xaikit.images.references import draw_references
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "shap"
_MODEL = ("model", "session", "learning_phase_flags")
_CALL = ("X", "ranked_outputs", "output_rank_order", "return_variances")
_REFERENCES = 8
_GAP = 0.01
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # warnings of shap's own imports
    theirs = guest_package("shap", _DISTRIBUTION)


class OneClass(nn.Module):
    """A model whose only output is the logit of one class.

    Args:
        model: model that returns logits (n, K).
        index: index of the class.
    """

    def __init__(self, model: Model, index: int) -> None:
        super().__init__()
        self.model = model
        self.index = index

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logit (n, 1) of the class."""
        logits: Tensor = self.model(inputs)
        return logits[:, self.index : self.index + 1]


@dataclass(frozen=True)
class Explainer(Guest, InputMethod):
    """An explainer that compares images with a background."""

    reduction = "sum"

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return shap's values (n, C, H, W)."""
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        references = draw_references(_REFERENCES, batch.inputs.shape[1], batch.size).to(batch.inputs)
        made = self.given(self.made_with, data=self.classifier.normalize(references))
        called = self.given(self.called_with, rseed=batch.context.seed % 2**32)
        values = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for image, index in zip(torch.split(batch.inputs, 1), classes.tolist(), strict=True):
                explainer = self.theirs(OneClass(model, index), **made)
                result = explainer.shap_values(image.detach().clone(), **called)
                values.append(torch.as_tensor(result).reshape(image.shape).to(image))
        return self.read(torch.cat(values), model, made["data"], classes)

    def read(self, values: Tensor, model: Model, background: Tensor, classes: Tensor) -> Values:
        """Return shap's values (n, C, H, W) as `Values`."""
        return Values(values)


@dataclass(frozen=True)
class Deep(Explainer):
    """DeepExplainer, whose values should sum to the score minus the mean score of the background."""

    def read(self, values: Tensor, model: Model, background: Tensor, classes: Tensor) -> Values:
        """Return shap's values with the mean logit of the background."""
        with torch.no_grad():
            expected = model(background).mean(0)[classes]
        return Values(values, diagnostics={"background": expected})

    def compute(self, batch: Batch) -> Values:
        """Return shap's values with the gap between their sum and the difference of the scores."""
        result = super().compute(batch)
        promised = batch.scores - result.diagnostics.pop("background")
        gap = result.values.flatten(1).sum(1) - promised
        incomplete = (gap.abs() > _GAP * promised.abs()).tolist()
        flags = [{"incomplete"} if flagged else set() for flagged in incomplete]
        return Values(result.values, completeness=gap, flags=flags)

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward of the image and of a background image, for each background image."""
        return Cost(1 + 2 * _REFERENCES, 2 * _REFERENCES)


@dataclass(frozen=True)
class Gradient(Explainer):
    """GradientExplainer, which draws points between the image and the background."""

    nsamples: int = 200

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward per sample, and a forward per background image."""
        return Cost(1 + _REFERENCES + self.nsamples, self.nsamples)


for _base, _kind in ((Deep, theirs.DeepExplainer), (Gradient, theirs.GradientExplainer)):
    behind(
        _base,
        _kind,
        method_name(_PACKAGE, _kind.__name__),
        _DISTRIBUTION,
        parameters(_kind, _MODEL),
        parameters(_kind.shap_values, _CALL),
        family="gradient",
        needs=frozenset[Need]({"input-gradient"}),
    )
