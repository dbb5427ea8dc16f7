"""lime: its explainer of images.

    values = explain_instance(picture, probabilities, labels=[class]).local_exp[class]      one a segment, (n, H, W)

Theirs takes pictures (H, W, 3) in pixels and draws from a stream of its own; each image is explained alone, with the
seed of the run, so that it does not depend on the batch. Their parameters keep their names and defaults.

What theirs leave open is chosen here and may be given instead:
    random_seed    of the segmentation, the seed of the run
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaikit.backends.generate import behind, guest_package, method_name, parameters
from xaikit.backends.guest import Guest, Model
from xaikit.extend import Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "lime"
_OURS = ("kernel", "verbose", "random_state", "image", "classifier_fn", "labels", "top_labels")
theirs = guest_package("lime.lime_image", _DISTRIBUTION)


@dataclass(frozen=True)
class Explainer(Guest):
    """The explainer of images."""

    num_samples: int = 1000

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return their coefficients at the pixels of each segment, (n, H, W)."""
        found = [self._one(model, batch, row, int(index)) for row, index in enumerate(classes)]
        return Values(torch.stack(found).to(batch.inputs))

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image and one forward a sample."""
        return Cost(1 + self.num_samples, 0)

    def _one(self, model: Model, batch: Batch, row: int, index: int) -> Tensor:
        seed = batch.context.seed % 2**32
        channels = batch.pixels.shape[1]

        def probabilities(pictures: NDArray[Any]) -> NDArray[Any]:
            pixels = torch.from_numpy(pictures[..., :channels]).permute(0, 3, 1, 2).to(batch.pixels)
            with torch.no_grad():
                logits = model(self.classifier.normalize(pixels))
            shares: NDArray[Any] = self.classifier.to_probabilities(logits).double().cpu().numpy()
            return shares

        picture = batch.pixels[row].double().cpu().permute(1, 2, 0)
        picture = picture.expand(-1, -1, 3) if channels == 1 else picture
        explainer = self.theirs(**self.given(self.made_with), random_state=seed)
        with redirect_stderr(io.StringIO()):  # their progress bar
            explained = explainer.explain_instance(
                np.ascontiguousarray(picture.numpy()),
                probabilities,
                labels=(index,),
                top_labels=None,
                **self.given(self.called_with, random_seed=seed),
            )
        values = torch.zeros(batch.size, dtype=torch.float64)
        segments = torch.from_numpy(np.asarray(explained.segments))
        for number, weight in explained.local_exp[index]:
            values[segments == number] = weight
        return values


behind(
    Explainer,
    theirs.LimeImageExplainer,
    method_name(_PACKAGE, theirs.LimeImageExplainer.__name__),
    _DISTRIBUTION,
    parameters(theirs.LimeImageExplainer, _OURS),
    parameters(theirs.LimeImageExplainer.explain_instance, _OURS),
    family="perturbation",
)
