"""LIME: coefficients of a linear model of the probability, fitted in the neighbourhood of the image.

    z_i ~ Bernoulli(1/2)^M, z_0 = ones           segments that sample i keeps
    y_i = p_c(x under z_i)
    pi_i = sqrt(exp(-d_i^2 / width^2))           d_i = 1 - sqrt(|z_i| / M): cosine distance of z_i to ones
    w, b = argmin sum_i pi_i (y_i - b - w z_i)^2 + alpha |w|^2
    map(u) = w_k at every pixel u of segment k

In words: The image is cut into superpixels, many copies hide random ones of them, and a linear model is fitted that
predicts the class's probability from the visible ones. Its coefficients are the map: blocky, signed, specific to the
class. The diagnostic `fit` tells how well the linear model fits; where it is low, the map means little. Segmentation,
fill and kernel width change the result, as does the seed. Values compare segments of one image only. It costs 1,000
forwards by default.

The `lime` package's local linear model does the fit. The samples depend on the seed and the content of the image.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed, one value per segment.
Units:  probability (or score) per segment; comparable within an image only. Diagnostic `fit` is the weighted R^2.
Source: Ribeiro et al., KDD 2016, eq. 1, arXiv:1602.04938, and the authors' package for images.
Departs from source: the default segmentation is slic instead of quickshift; all segments are used (no feature
    selection); only the explained class is fitted.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import NotNegative, check_table
from xaikit.methods.base import METHODS, Values
from xaikit.methods.perturbation.scorer import MaskedFill, Score, Scorer
from xaikit.methods.perturbation.segment_method import SegmentMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Lime(SegmentMethod):
    """Coefficients of a linear model of the probability, one per segment.

    Args:
        samples: number of masked images, including the unchanged image.
        width: width of the kernel, in cosine distance.
        alpha: strength of the ridge penalty.
    """

    samples: Annotated[int, Ge(2)] = 1000
    fill: MaskedFill | Tensor = "segment-mean"
    width: Annotated[float, Ge(1e-6)] = 0.25
    alpha: NotNegative = 1.0
    score: Score = "probability"

    name = "lime"
    source = "Ribeiro et al., KDD 2016, arXiv:1602.04938"

    def compute(self, batch: Batch) -> Values:
        """Return each segment's coefficient at its pixels, (n, H, W)."""
        segments, counts = self.segmented(batch)
        if max(counts) >= self.samples:
            raise BadInput(
                f"samples: expected more than the {max(counts)} segments, got {self.samples}; raise samples or lower "
                "segments"
            )
        check_table("samples", self.samples, max(counts), "lower samples or segments")
        drawn = [self._draw(count, stream) for count, stream in zip(counts, batch.generators("lime"), strict=True)]
        scores = Scorer(batch, self.fill, self.score, segments).of_coalitions(drawn)
        fitted = [
            local_weights(kept, image_scores, self.width, self.alpha)
            for kept, image_scores in zip(drawn, scores, strict=True)
        ]
        fit = {"fit": torch.tensor([fit for _, fit in fitted], device="cpu")}
        return self.spread([weights for weights, _ in fitted], segments, counts, diagnostics=fit)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image and one per sample."""
        return Cost(1 + self.samples, 0)

    def _draw(self, count: int, stream: torch.Generator) -> Tensor:
        """Return the segments that each sample keeps, (samples, count) bool; the first sample keeps all."""
        kept = torch.rand(self.samples, count, generator=stream, dtype=torch.float32, device="cpu") < 0.5
        kept[0] = True
        return kept


def local_weights(kept: Tensor, scores: Tensor, width: float = 0.25, alpha: float = 1.0) -> tuple[Tensor, float]:
    """Return the coefficients (M,) and the weighted R^2 of lime's local linear model.

    They are NaN if a score is not finite; equal scores give zeros, and no R^2.

    Args:
        kept: (samples, M) bool; the first row is all true.
        scores: (samples,) scores of the masked images.
        width: width of the kernel, in cosine distance.
        alpha: strength of the ridge penalty.
    """
    from lime.lime_base import LimeBase
    from sklearn.linear_model import Ridge

    if not bool(scores.isfinite().all()):
        return torch.full_like(scores, torch.nan)[:1].expand(kept.shape[1]), math.nan
    if bool((scores == scores[0]).all()):  # the regression would give rounding
        return torch.zeros_like(scores[:1]).expand(kept.shape[1]), math.nan
    data = kept.cpu().double().numpy()
    distances = 1 - np.sqrt(data.mean(1))
    base = LimeBase(lambda distance: np.sqrt(np.exp(-(distance**2) / width**2)), random_state=0)
    _, coefficients, fit, _ = base.explain_instance_with_data(
        data,
        scores.cpu().double().numpy()[:, None],
        distances,
        label=0,
        num_features=data.shape[1],
        feature_selection="none",
        model_regressor=Ridge(alpha=alpha, fit_intercept=True),
    )
    weights = torch.zeros(data.shape[1], dtype=torch.float64, device="cpu")
    for segment_number, coefficient in coefficients:
        weights[segment_number] = coefficient
    return weights.to(scores), float(fit)
