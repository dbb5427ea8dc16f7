"""shap: its explainers of any function, by changing the input.

    kernel-explainer       shap_values(ones) of the game on 7 x 7 squares of the image       one a square, (n, H, W)
    partition-explainer    explainer(picture).values, features as its hierarchy splits them   (n, C, H, W)

Theirs explain the logit of the image's class. Each image is explained alone, from the seed of the run, so that it does
not depend on the batch. Their parameters keep their names and defaults; KernelExplainer's `l1_reg` keeps ten features.

What theirs leave open is chosen here and may be given instead:
    data      missing squares are the mean colour, zero in the network's own coordinates
    masker    "inpaint_telea": what hides a part of the picture, whose pixels are given in [0, 255]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaikit.backends.choices import squares
from xaikit.backends.generate import behind, guest_package, method_name, parameters
from xaikit.backends.guest import Guest, Model
from xaikit.extend import InputMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "shap"
_SIDE = 7
_OURS = ("model", "feature_names", "output_names", "X", "data", "silent", "outputs", "args", "kwargs", "call_args")
Game = Callable[[NDArray[Any]], NDArray[Any]]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    theirs = guest_package("shap", _DISTRIBUTION)


def _played(model: Model, batch: Batch, index: int, inputs_of: Callable[[Tensor], Tensor]) -> Game:
    """Return the logit of a class as a function of what theirs change, in portions.

    Args:
        model: gives logits.
        batch: of the image.
        index: of the class.
        inputs_of: makes the network's inputs (m, C, H, W) of a portion of theirs.
    """
    portion = batch.context.portion(batch.classifier, batch.size)

    def game(changed: NDArray[Any]) -> NDArray[Any]:
        parts = torch.split(torch.from_numpy(np.asarray(changed)), portion)
        with torch.no_grad():
            logits = [model(inputs_of(part.to(batch.inputs)))[:, index] for part in parts]
        found: NDArray[Any] = torch.cat(logits).double().cpu().numpy()
        return found

    return game


@dataclass(frozen=True)
class Kernel(Guest):
    """KernelExplainer on squares of the image."""

    nsamples: int | str = "auto"

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return their values at the pixels of each square, (n, H, W)."""
        numbers = squares(batch.size, _SIDE).to(batch.inputs.device)[0, 0]
        count = int(numbers.max()) + 1
        found = []
        for image, index in zip(batch.inputs, classes.tolist(), strict=True):

            def inputs_of(kept: Tensor, image: Tensor = image) -> Tensor:
                return image * kept[:, None, numbers]

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                explainer = self.theirs(
                    _played(model, batch, index, inputs_of), np.zeros((1, count)), **self.given(self.made_with)
                )
                values = explainer.shap_values(np.ones(count), **self.given(self.called_with), silent=True)
            found.append(torch.from_numpy(np.asarray(values)).to(batch.inputs)[numbers])
        return Values(torch.stack(found))

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image, both ends and one forward a sample."""
        count = min(_SIDE, size[0]) * min(_SIDE, size[1])
        return Cost(3 + (self.nsamples if isinstance(self.nsamples, int) else 2 * count + 2048), 0)


@dataclass(frozen=True)
class Partition(Guest, InputMethod):
    """PartitionExplainer on pictures."""

    reduction = "sum"
    max_evals: int = 500

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return their values, (n, C, H, W)."""
        made = self.given(self.made_with, masker="inpaint_telea")
        shape = (*batch.size, batch.inputs.shape[1])
        if not callable(made["masker"]):
            made["masker"] = theirs.maskers.Image(made["masker"], shape=shape)

        def inputs_of(pictures: Tensor) -> Tensor:
            return self.classifier.normalize(pictures.reshape(-1, *shape).permute(0, 3, 1, 2) / 255)

        found = []
        for image, index in zip(batch.pixels, classes.tolist(), strict=True):
            picture = (image.double() * 255).permute(1, 2, 0).cpu().numpy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                explainer = self.theirs(_played(model, batch, index, inputs_of), **made)
                values = explainer(picture[None], **self.given(self.called_with), silent=True).values
            found.append(torch.from_numpy(np.asarray(values)).reshape(shape).permute(2, 0, 1))
        return Values(torch.stack(found).to(batch.inputs))

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image and one forward an evaluation."""
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
