"""The table of agreement.

A new method is one `Pair` a counterpart. Where maps differ, `differs` says why, and `formula` (of ours) or
`their_formula` (of theirs) proves it. `WITHOUT_PEER` and `WITHOUT_OURS` say what has no counterpart, and why.
"""

from __future__ import annotations

from tests.backends.cases import CIFAR
from tests.backends.formulas import cropped_at_the_border
from tests.backends.pairs import Pair
from tests.backends.table_deep_lift import DEEP_LIFT
from tests.backends.table_gradient_methods import GRADIENT_METHODS
from tests.backends.table_perturbation import PERTURBATION
from tests.backends.table_with_gradients import WITH_GRADIENTS
from tests.backends.table_without_gradients import WITHOUT_GRADIENTS

__all__ = ["PAIRS", "WITHOUT_OURS", "WITHOUT_PEER"]

TO_THE_INPUT = [
    Pair(
        "occlusion",
        "captum/occlusion",
        CIFAR,
        params={"window": 8, "stride": 4},
        their_params={"sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4)},
    ),
    Pair(
        "occlusion",
        "captum/occlusion",
        ("squeezenet1_0",),
        params={"window": 56, "stride": 42},
        their_params={"sliding_window_shapes": (3, 56, 56), "strides": (3, 42, 42)},
        images=2,
    ),
    Pair(
        "occlusion",
        "captum/occlusion",
        CIFAR,
        params={"window": 10, "stride": 6},
        their_params={"sliding_window_shapes": (3, 10, 10), "strides": (3, 6, 6)},
        formula=cropped_at_the_border(10, 6),
        differs="crops the last window at the border",
    ),
]

PAIRS = [*WITH_GRADIENTS, *WITHOUT_GRADIENTS, *GRADIENT_METHODS, *DEEP_LIFT, *TO_THE_INPUT, *PERTURBATION]

WITHOUT_PEER = {
    "group-cam": "no other package has it",
    "libra-cam": "no other package has it",
    "opti-cam": "no other package for PyTorch has it",
    "poly-cam": "no other package has it",
    "recipro-cam": "no other package has it",
    "relevance-cam": "no other package has it",
}
WITHOUT_OURS = {
    "captum/internal-influence": "gradients on a path of inputs",
    "captum/layer-activation": "the activations themselves",
    "captum/layer-conductance": "gradients on a path of inputs",
    "captum/layer-deep-lift": "differences to a reference input",
    "captum/layer-deep-lift-shap": "differences to reference inputs",
    "captum/layer-feature-ablation": "takes positions away and no channels",
    "captum/layer-gradient-shap": "gradients at noisy inputs",
    "captum/layer-integrated-gradients": "gradients on a path of activations",
    "captum/layer-lrp": "relevance itself, by another rule",
    "pytorch-grad-cam/random-cam": "draws its weights",
    "pytorch-grad-cam/seg-eigen-cam": "the first direction of |gradient| times activation",
    "pytorch-grad-cam/sess": "Grad-CAM of many patches",
}
