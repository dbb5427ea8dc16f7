"""The networks of the tests, and their inputs. One that shows an oddity in one test stands beside that test.

variants      Net and what users change in it: in place, reused, functional, residual, gated, frozen, failing
by_hand       GAPNet and others whose attributions can be worked out by hand
modular       networks for packages that read modules
confidence    Sum, Additive: the confidence is known; `small` has random weights
inputs        images, pictures, heatmaps
"""

from tests.networks.by_hand import (
    Activated,
    CellNet,
    ConvolutionalHead,
    DeepNet,
    FlatNet,
    GAPNet,
    GraphlessNet,
    HiddenNet,
    InPlaceSum,
    LinearNet,
    bound,
)
from tests.networks.confidence import Additive, Sum, additive, small, summing, true_shares
from tests.networks.inputs import heatmaps, images, pictures
from tests.networks.modular import FunctionalReluNet, ModularNet, ReusedReluNet
from tests.networks.variants import (
    CLASSES,
    CLASSIFIERS,
    Concat,
    Failing,
    FrozenStem,
    Functional,
    FunctionalInPlace,
    Guarded,
    InPlace,
    Net,
    Raising,
    Residual,
    Reused,
    SqueezeExcite,
    Statement,
    Stochastic,
    frozen,
    narrowed,
    of_torchvision,
    parallel,
    seeded,
    with_nan,
)

__all__ = [
    "CLASSES",
    "CLASSIFIERS",
    "Activated",
    "Additive",
    "CellNet",
    "Concat",
    "ConvolutionalHead",
    "DeepNet",
    "Failing",
    "FlatNet",
    "FrozenStem",
    "Functional",
    "FunctionalInPlace",
    "FunctionalReluNet",
    "GAPNet",
    "GraphlessNet",
    "Guarded",
    "HiddenNet",
    "InPlace",
    "InPlaceSum",
    "LinearNet",
    "ModularNet",
    "Net",
    "Raising",
    "Residual",
    "Reused",
    "ReusedReluNet",
    "SqueezeExcite",
    "Statement",
    "Stochastic",
    "Sum",
    "additive",
    "bound",
    "frozen",
    "heatmaps",
    "images",
    "narrowed",
    "of_torchvision",
    "parallel",
    "pictures",
    "seeded",
    "small",
    "summing",
    "true_shares",
    "with_nan",
]
