"""shap: its perturbation explainers of any function.

    kernel-explainer       shap_values(ones) of the game on 7 x 7 squares of the image     one per square, (n, H, W)
    partition-explainer    explainer(image).values, features as shap's hierarchy splits them   (n, C, H, W)

shap explains the logit of the class. Each image is explained separately with the seed of the run, so that it does not
depend on the batch. Parameters keep shap's names and defaults, except that KernelExplainer's `l1_reg` keeps ten
features.

Defaults for parameters that shap leaves open:
    data      missing squares have the mean colour, zero after normalisation
    masker    "inpaint_telea", which hides parts of the image; its pixels are in [0, 255]
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaikit.backends.default_features import squares
from xaikit.backends.foreign_method import Guest, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters
from xaikit.extend import InputMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "shap"
_SIDE = 7
_OURS = ("model", "feature_names", "output_names", "X", "data", "silent", "outputs", "args", "kwargs", "call_args")
Game = Callable[[NDArray[Any]], NDArray[Any]]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # warnings of shap's own imports
    theirs = guest_package("shap", _DISTRIBUTION)


def _game(model: Model, batch: Batch, index: int, inputs_of: Callable[[Tensor], Tensor]) -> Game:
    """Return the logit of a class as a function of shap's samples, evaluated in portions.

    Args:
        model: model that returns logits (n, K).
        batch: batch of the image.
        index: index of the class.
        inputs_of: returns the network's inputs (m, C, H, W) for a portion of m samples.
    """
    portion = batch.context.portion(batch.classifier, batch.size)

    def game(samples: NDArray[Any]) -> NDArray[Any]:
        parts = torch.split(torch.from_numpy(np.asarray(samples)), portion)
        with torch.no_grad():
            logits = [model(inputs_of(part.to(batch.inputs)))[:, index] for part in parts]
        result: NDArray[Any] = torch.cat(logits).double().cpu().numpy()
        return result

    return game


@dataclass(frozen=True)
class Kernel(Guest):
    """KernelExplainer on squares of the image."""

    nsamples: int | str = "auto"

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return shap's values at the pixels of each square, (n, H, W)."""
        numbers = squares(batch.size, _SIDE).to(batch.inputs.device)[0, 0]
        count = int(numbers.max()) + 1
        maps = []
        for image, index in zip(batch.inputs, classes.tolist(), strict=True):

            def inputs_of(kept: Tensor, image: Tensor = image) -> Tensor:
                return image * kept[:, None, numbers]

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                explainer = self.theirs(
                    _game(model, batch, index, inputs_of), np.zeros((1, count)), **self.given(self.made_with)
                )
                values = explainer.shap_values(np.ones(count), **self.given(self.called_with), silent=True)
            maps.append(torch.from_numpy(np.asarray(values)).to(batch.inputs)[numbers])
        return Values(torch.stack(maps))

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward of the unchanged image, two of the extremes (no and all squares), and one per sample."""
        count = min(_SIDE, size[0]) * min(_SIDE, size[1])
        return Cost(3 + (self.nsamples if isinstance(self.nsamples, int) else 2 * count + 2048), 0)


@dataclass(frozen=True)
class Partition(Guest, InputMethod):
    """PartitionExplainer on images."""

    reduction = "sum"
    max_evals: int = 500

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return shap's values (n, C, H, W)."""
        made = self.given(self.made_with, masker="inpaint_telea")
        shape = (*batch.size, batch.inputs.shape[1])
        if not callable(made["masker"]):
            made["masker"] = import_module("shap.maskers").Image(made["masker"], shape=shape)

        def inputs_of(images: Tensor) -> Tensor:
            return self.classifier.normalize(images.reshape(-1, *shape).permute(0, 3, 1, 2) / 255)

        maps = []
        for pixels, index in zip(batch.pixels, classes.tolist(), strict=True):
            image = (pixels.double() * 255).permute(1, 2, 0).cpu().numpy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                explainer = self.theirs(_game(model, batch, index, inputs_of), **made)
                values = explainer(image[None], **self.given(self.called_with), silent=True).values
            maps.append(torch.from_numpy(np.asarray(values)).reshape(shape).permute(2, 0, 1))
        return Values(torch.stack(maps).to(batch.inputs))

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward of the unchanged image and one per evaluation."""
        return Cost(1 + self.max_evals, 0)


behind(
    Kernel,
    theirs.KernelExplainer,
    method_name(_PACKAGE, theirs.KernelExplainer.__name__),
    _DISTRIBUTION,
    parameters(theirs.KernelExplainer, _OURS),
    {"nsamples": "auto", "l1_reg": "num_features(10)"},
    family="perturbation",
    draws=True,
)
behind(
    Partition,
    theirs.PartitionExplainer,
    method_name(_PACKAGE, theirs.PartitionExplainer.__name__),
    _DISTRIBUTION,
    parameters(theirs.PartitionExplainer, _OURS),
    parameters(theirs.PartitionExplainer.__call__, _OURS),
    family="perturbation",
    draws=True,
)
