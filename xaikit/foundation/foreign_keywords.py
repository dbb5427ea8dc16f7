"""The keywords that captum, pytorch-grad-cam, torch-cam and Quantus use, with ours.

steps=... for n_steps=...        where the method has a parameter of that name
chunk_size=... for internal_batch_size=...        an argument of `attribute` itself
"""

from __future__ import annotations

from collections.abc import Container

_PARAMETERS = {
    "baselines": ("baseline", "references", "fill"),
    "feature_mask": ("segments",),
    "n_samples": ("samples",),
    "n_steps": ("steps",),
    "nt_samples": ("samples",),
    "nt_samples_batch_size": (),
    "num_samples": ("samples",),
    "num_steps": ("steps",),
    "sliding_window_shapes": ("window",),
    "stdev_spread": ("level",),
    "stdevs": ("level", "deviation"),
    "strides": ("stride",),
}
"""Parameters of methods: ours in order of preference."""

_ARGUMENTS = {
    "a_batch": "the maps, the third argument of xaikit.measure",
    "batch_size": "chunk_size=",
    "class_idx": "target=",
    "device": "xaikit.load(..., device=), or move the network",
    "input_tensor": "the second argument, pixels in [0, 1]",
    "internal_batch_size": "chunk_size=",
    "model": "the first argument, a Classifier",
    "nt_samples_batch_size": "chunk_size=",
    "perturbations_per_eval": "chunk_size=",
    "reshape_transform": "nothing: the grid of a layer is found by itself",
    "return_convergence_delta": "the result's .completeness",
    "s_batch": "masks= of xaikit.measure",
    "show_progress": "progress=",
    "softmax": "output= of the Classifier",
    "target_layer": "layer=",
    "target_layers": "layer=",
    "targets": "target=",
    "use_cuda": "xaikit.load(..., device='cuda'), or move the network",
    "x_batch": "the second argument, pixels in [0, 1]",
    "y_batch": "target=",
}
"""Arguments that every method takes in another way."""


def our_keyword(name: str, known: Container[str]) -> str | None:
    """Return what stands for another package's keyword here, or None if it is unknown.

    Args:
        name: the keyword.
        known: the parameters of the method or measure.
    """
    ours = next((parameter for parameter in _PARAMETERS.get(name, ()) if parameter in known), None)
    return f"{ours}=" if ours else _ARGUMENTS.get(name)
