"""What other packages weigh activations by, written out from the activations A and gradients G (n, C, h, w) alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.backends.cases import Case
from tests.backends.formulas import Formula, channels_to_one, post_processed
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.context import Context

__all__ = [
    "at_the_sign_of_their_svd",
    "at_the_sign_of_their_svd_of_gradients",
    "centred_by_their_svd",
    "channels_filled_far_below",
    "cubed_gradients",
    "divided_by_negative_scores",
    "enlarged_by_corners",
    "enlarged_then_scaled",
    "masked_by",
    "overwritten_in_place",
    "scaled_then_enlarged",
    "shares_of_strong_positions",
    "squares_with_added_constant",
]


def overwritten_in_place(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam at a layer that a functional in-place ReLU follows.

    Its copy of the activations is overwritten by the ReLU, its gradient is taken before: relu(sum mean(G before) * A
    after), post-processed as always.
    """
    after, _ = _activations_and_gradients(case)
    _, before = _activations_and_gradients(case, Layer(case.layer))
    return post_processed(_weighted(before.mean((2, 3)), after), case)


def cubed_gradients(values: Tensor, case: Case) -> Tensor:
    """torchcam's Grad-CAM++: it divides a copy by the denominator, so w_k = sum G^2 relu(G)."""
    activations, gradients = _activations_and_gradients(case)
    return _weighted((gradients**2 * gradients.relu()).sum((2, 3)), activations).relu()


def squares_with_added_constant(added: float, third: Literal["activations", "cubes"] = "activations") -> Formula:
    """Grad-CAM++ by powers: G^2 / (2 G^2 + S G^3 + added), where G^2 may be as small as what is added.

    pytorch-grad-cam adds 1e-6. torchcam's smooth form adds 1e-8 and has sum A G^3 ("cubes") in place of S G^3.
    """

    def formula(values: Tensor, case: Case) -> Tensor:
        activations, gradients = _activations_and_gradients(case)
        activations, gradients = activations.double(), gradients.double()
        cubes = gradients**3
        if third == "cubes":
            rest = (activations * cubes).sum((2, 3), keepdim=True)
        else:
            rest = activations.sum((2, 3), keepdim=True) * cubes
        shares = torch.where(gradients > 0, gradients**2 / (2 * gradients**2 + rest + added), 0)
        return _weighted((shares * gradients.relu()).sum((2, 3)), activations).relu()

    return formula


def masked_by(masks: Callable[[Tensor, tuple[int, int]], Tensor]) -> Formula:
    """Score-CAM with weights softmax_k(z_c(mask_k x)); channels that are constant take part."""

    def formula(values: Tensor, case: Case) -> Tensor:
        activations, _ = _activations_and_gradients(case)
        inputs = case.classifier.normalize(case.pixels)
        size = (inputs.shape[2], inputs.shape[3])
        kept = []
        with case.classifier.borrowed(), torch.no_grad():
            for image, mask, index in zip(inputs, masks(activations, size), case.target, strict=True):
                logits = [case.classifier.logits(image * part[:, None]) for part in mask.split(16)]
                kept.append(torch.cat(logits)[:, index])
        return _weighted(torch.stack(kept).softmax(1), activations).relu()

    return formula


def enlarged_then_scaled(activations: Tensor, size: tuple[int, int]) -> Tensor:
    """The masks of the paper, and ours."""
    return channels_to_one(F.interpolate(activations, size=size, mode="bilinear", align_corners=False))


def enlarged_by_corners(activations: Tensor, size: tuple[int, int]) -> Tensor:
    """pytorch-grad-cam's masks: enlarged with align_corners=True."""
    return channels_to_one(F.interpolate(activations, size=size, mode="bilinear", align_corners=True))


def scaled_then_enlarged(activations: Tensor, size: tuple[int, int]) -> Tensor:
    """torchcam's masks: scaled to [0, 1] at the layer's size."""
    return F.interpolate(channels_to_one(activations), size=size, mode="bilinear", align_corners=False)


def shares_of_strong_positions(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam's FEM: sum_k w_k A_k, w_k the share of positions more than two deviations above the mean."""
    activations, _ = _activations_and_gradients(case)
    rows = activations.flatten(2).numpy()
    strong = rows > rows.mean(2, keepdims=True) + 2 * rows.std(2, keepdims=True)
    return _weighted(torch.from_numpy(strong.mean(2, dtype=np.float32)), activations)


def divided_by_negative_scores(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam's Ablation-CAM at a negative score: all weights W_ck mean A_k of a CIFAR network turn."""
    activations, _ = _activations_and_gradients(case)
    weight = case.classifier.module.get_parameter("linear.weight").detach()[case.target]
    return post_processed(-_weighted(weight * activations.mean((2, 3)), activations), case)


def channels_filled_far_below(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam's Ablation-CAM at a layer whose smallest activation is not zero.

    A channel is not set to zero but to the smallest value less 1e7, and that value counts as the smallest for the next
    channel: the j-th of each 32 is filled with min A - j 1e7. Weights are (y - y_k) / y.
    """
    activations, _ = _activations_and_gradients(case)
    channels = torch.arange(activations.shape[1])
    weights = []
    for inputs, one, index in zip(case.classifier.normalize(case.pixels), activations, case.target, strict=True):
        filled = one.repeat(len(channels), 1, 1, 1)
        filled[channels, channels] = (one.amin() - 1e7 * (1 + channels % 32))[:, None, None]
        with case.classifier.borrowed(), torch.no_grad():
            whole = case.classifier.logits(inputs[None])[0, index]
            with case.classifier.probe() as probe:
                probe.replace(Layer(case.layer), lambda activation, filled=filled: filled)  # type: ignore[misc]
                weights.append((whole - case.classifier.logits(inputs[None])[:, index]) / whole)
    return post_processed(_weighted(torch.stack(weights), activations), case)


def at_the_sign_of_their_svd(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam's Eigen-CAM: the sign is the one that numpy's decomposition happens to give."""
    activations, _ = _activations_and_gradients(case)
    return _at_the_sign_of(values, _first_projection(activations), case)


def at_the_sign_of_their_svd_of_gradients(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam's Eigen-Grad-CAM: the same of gradient times activation."""
    activations, gradients = _activations_and_gradients(case)
    return _at_the_sign_of(values, _first_projection(gradients * activations), case)


def centred_by_their_svd(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam's Eigen-CAM: each channel's mean is subtracted first."""
    activations, _ = _activations_and_gradients(case)
    return post_processed(_first_projection(activations), case)


def _activations_and_gradients(case: Case, layer: Layer | None = None) -> tuple[Tensor, Tensor]:
    with case.classifier.borrowed():
        batch = Batch(case.classifier, case.pixels, case.target, Context())
        return batch.activations_and_gradients(layer or case.classifier.resolve_layer(case.ours))


def _weighted(weights: Tensor, activations: Tensor) -> Tensor:
    return torch.einsum("nk,nkhw->nhw", weights, activations)


def _at_the_sign_of(values: Tensor, projection: Tensor, case: Case) -> Tensor:
    sign = (values * projection).sum((1, 2), keepdim=True).sign()
    return post_processed(sign * values, case)


def _first_projection(maps: Tensor) -> Tensor:
    """Return centred maps (n, C, h, w) on the first direction of numpy's decomposition, (n, h, w)."""
    found = []
    for rows in maps.flatten(2).transpose(1, 2).numpy():
        centred = rows - rows.mean(0)
        found.append(centred @ np.linalg.svd(centred, full_matrices=True)[2][0])
    return torch.from_numpy(np.stack(found)).reshape(len(found), *maps.shape[2:])
