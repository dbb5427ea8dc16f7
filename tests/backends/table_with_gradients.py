"""The rows of activation methods that weigh by gradients."""

from __future__ import annotations

from tests.backends.cases import CIFAR, PLAIN, RANDOM, REAL
from tests.backends.formulas import (
    against_nearest_by_probability,
    post_processed,
    rectified,
    then_post_processed,
)
from tests.backends.pairs import Pair
from tests.backends.weights import (
    at_the_sign_of_their_svd_of_gradients,
    cubed_gradients,
    overwritten_in_place,
    squares_with_added_constant,
)

__all__ = ["WITH_GRADIENTS"]

PIECEWISE_LINEAR = ("resnet18", "vgg11", "googlenet", "mobilenet_v2")
INSIDE_DENSENET = "densenet121:features.transition3.relu"

GRAD_CAM = [
    Pair("grad-cam", "pytorch-grad-cam/grad-cam", (*REAL, *PLAIN), formula=post_processed),
    Pair("grad-cam", "torchcam/grad-cam", (*REAL, *RANDOM)),
    Pair("grad-cam", "captum/layer-grad-cam", (*REAL, *PLAIN), their_params={"relu_attributions": True}),
    Pair("grad-cam", "captum/layer-grad-cam", CIFAR, their_formula=rectified, differs="signed unless told otherwise"),
    Pair(
        "grad-cam",
        "captum/layer-grad-cam",
        ("densenet121",),
        their_params={"relu_attributions": True},
        layer="features.norm5",
    ),
    Pair(
        "grad-cam",
        "pytorch-grad-cam/grad-cam",
        ("densenet121",),
        formula=overwritten_in_place,
        differs="activations after and gradients before the functional ReLU",
    ),
    Pair("grad-cam", "pytorch-grad-cam/shapley-cam", (*CIFAR, *PIECEWISE_LINEAR), formula=post_processed),
    Pair(
        "shapley-cam",
        "pytorch-grad-cam/shapley-cam",
        (*CIFAR, "efficientnet_b0", "convnext_tiny"),
        params={"utility": "score"},
        formula=post_processed,
    ),
    Pair(
        "grad-cam",
        "pytorch-grad-cam/finer-cam",
        score=against_nearest_by_probability,
        formula=post_processed,
    ),
    Pair("finer-cam", "torchcam/finer-cam"),
    Pair("finer-cam", "torchcam/finer-cam", CIFAR, rank=4),
    Pair(
        "finer-cam",
        "pytorch-grad-cam/finer-cam",
        CIFAR,
        params={"strength": 1.0, "classes": 1},
        their_params={"comparison_categories": (1,)},
        formula=post_processed,
    ),
]

GRADIENT_WEIGHTED = [
    Pair(
        "grad-cam-plus-plus",
        "pytorch-grad-cam/grad-cam-plus-plus",
        (*REAL, *PLAIN, INSIDE_DENSENET),
        formula=then_post_processed(squares_with_added_constant(1e-6)),
        own=squares_with_added_constant(0),
        differs="adds 1e-6 to squared gradients",
    ),
    Pair(
        "refine-cam",
        "pytorch-grad-cam/refine-cam",
        (
            "cifar-resnet20:layer1",
        ),  # the finest grid, so that it is the one layer; of several in test_product_of_layers
        formula=then_post_processed(squares_with_added_constant(1e-6)),
        own=then_post_processed(squares_with_added_constant(0)),
        differs="Grad-CAM++ with 1e-6 added to squared gradients",
    ),
    Pair(
        "grad-cam-plus-plus",
        "torchcam/grad-cam-plus-plus",
        (*REAL, *RANDOM),
        formula=cubed_gradients,
        own=squares_with_added_constant(0),
        differs="never divides by the denominator",
    ),
    Pair(
        "grad-cam-plus-plus",
        "torchcam/smooth-grad-cam-plus-plus",
        # Left out: cifar-resnet20, where 1e-8 just reaches the tolerance, and vgg11 and efficientnet_b0, where
        # denominators pass so near zero that theirs is another map for one image than for the same one of two.
        ("squeezenet1_0", "cifar-resnet56", *(one for one in RANDOM if one not in ("vgg11", "efficientnet_b0"))),
        params={"variant": "local"},
        their_params={"num_samples": 1, "std": 1e-12},
        formula=squares_with_added_constant(1e-8, third="cubes"),
        own=squares_with_added_constant(0, third="cubes"),
        differs="adds 1e-8 to squared gradients",
    ),
    Pair(
        "smooth-grad-cam-plus-plus",
        "torchcam/smooth-grad-cam-plus-plus",
        ("squeezenet1_0", "cifar-resnet56"),
        params={"samples": 1, "level": 0.0},
        their_params={"num_samples": 1, "std": 1e-12},
        formula=squares_with_added_constant(1e-8, third="cubes"),
        own=squares_with_added_constant(0),
        differs="sums A G^3 where ours has S G^3, and adds 1e-8 to squared gradients",
    ),
    Pair("xgrad-cam", "pytorch-grad-cam/xgrad-cam", (*REAL, *PLAIN, INSIDE_DENSENET), formula=post_processed),
    Pair("xgrad-cam", "torchcam/xgrad-cam", (*REAL, *RANDOM)),
    Pair("layer-cam", "pytorch-grad-cam/layer-cam", (*REAL, *PLAIN, INSIDE_DENSENET), formula=post_processed),
    Pair("layer-cam", "pytorch-grad-cam/grad-cam-element-wise", (*REAL, *PIECEWISE_LINEAR), formula=post_processed),
    Pair("layer-cam", "torchcam/layer-cam", (*REAL, *RANDOM)),
    Pair("hires-cam", "captum/layer-gradient-x-activation", (*REAL, *PLAIN)),
    Pair(
        "hires-cam",
        "pytorch-grad-cam/hires-cam",
        (*CIFAR, "vgg11", "convnext_tiny"),
        formula=post_processed,
        differs="rectifies",
    ),
    Pair(
        "hires-cam",
        "pytorch-grad-cam/hires-cam",
        ("squeezenet1_0", "resnet18", "googlenet", "mobilenet_v2", "efficientnet_b0"),
        formula=post_processed,
    ),
    Pair(
        "eigen-grad-cam",
        "pytorch-grad-cam/eigen-grad-cam",
        (*REAL, "resnet18", "mobilenet_v2"),
        params={"variant": "centred"},
        formula=at_the_sign_of_their_svd_of_gradients,
        differs="leaves the sign to the decomposition and rectifies",
    ),
]

WITH_GRADIENTS = [*GRAD_CAM, *GRADIENT_WEIGHTED]
