"""lime: its image explainer.

    values = explain_instance(image, probabilities, labels=[class]).local_exp[class]    one per segment, (n, H, W)

lime takes images (H, W, 3) of pixels and has its own random generator; each image is explained separately with the
seed of the run, so that it does not depend on the batch. Parameters keep lime's names and defaults.

Default for a parameter that lime leaves open:
    random_seed    seed of the segmentation: the seed of the run
"""

import io
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaikit.backends.foreign_method import Guest, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters
from xaikit.extend import Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "lime"
_OURS = ("kernel", "verbose", "random_state", "image", "classifier_fn", "labels", "top_labels")
theirs = guest_package("lime.lime_image", _DISTRIBUTION)


@dataclass(frozen=True)
class Explainer(Guest):
    """lime's image explainer."""

    num_samples: int = 1000

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return lime's coefficients at the pixels of each segment, (n, H, W)."""
        values = [self._explain_image(model, batch, row, int(index)) for row, index in enumerate(classes)]
        return Values(torch.stack(values).to(batch.inputs))

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward of the unchanged image and one per sample."""
        return Cost(1 + self.num_samples, 0)

    def _explain_image(self, model: Model, batch: Batch, row: int, index: int) -> Tensor:
        seed = batch.context.seed % 2**32
        channels = batch.pixels.shape[1]

        def probabilities(images: NDArray[Any]) -> NDArray[Any]:
            pixels = torch.from_numpy(images[..., :channels]).permute(0, 3, 1, 2).to(batch.pixels)
            with torch.no_grad():
                logits = model(self.classifier.normalize(pixels))
            result: NDArray[Any] = self.classifier.to_probabilities(logits).double().cpu().numpy()
            return result

        image = batch.pixels[row].double().cpu().permute(1, 2, 0)
        image = image.expand(-1, -1, 3) if channels == 1 else image
        explainer = self.theirs(**self.given(self.made_with), random_state=seed)
        with redirect_stderr(io.StringIO()):  # lime's progress bar
            explanation = explainer.explain_instance(
                np.ascontiguousarray(image.numpy()),
                probabilities,
                labels=(index,),
                top_labels=None,
                **self.given(self.called_with, random_seed=seed),
            )
        values = torch.zeros(batch.size, dtype=torch.float64)
        segments = torch.from_numpy(np.asarray(explanation.segments))
        for number, weight in explanation.local_exp[index]:
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
