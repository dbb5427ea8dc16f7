"""The rows of activation methods without gradients at a layer."""

from __future__ import annotations

from tests.backends.cases import CIFAR, PLAIN, REAL
from tests.backends.formulas import (
    by_their_scaling,
    class_map,
    each_channel_to_one,
    post_processed,
    then_post_processed,
)
from tests.backends.pairs import Pair
from tests.backends.weights import (
    at_the_sign_of_their_svd,
    centred_by_their_svd,
    channels_filled_far_below,
    divided_by_negative_scores,
    enlarged_by_corners,
    enlarged_then_scaled,
    masked_by,
    scaled_then_enlarged,
    shares_of_strong_positions,
)

__all__ = ["WITHOUT_GRADIENTS"]

FEW_CHANNELS = ("squeezenet1_0:features.3", "resnet18:layer1", "mobilenet_v2:features.1")

WITHOUT_GRADIENTS = [
    Pair("cam", "torchcam/cam", CIFAR, their_params={"fc_layer": "linear"}),
    Pair("cam", "torchcam/cam", ("resnet18", "googlenet"), their_params={"fc_layer": "fc"}),
    Pair("cam", "torchcam/cam", ("mobilenet_v2", "efficientnet_b0"), their_params={"fc_layer": "classifier.1"}),
    Pair("cam", "torchcam/cam", ("densenet121",), their_params={"fc_layer": "classifier"}),
    Pair(
        "cam",
        "torchcam/cam",
        ("squeezenet1_0",),
        their_params={"fc_layer": "classifier.1"},
        their_formula=class_map,
        differs="leaves out bias and ReLU of a convolutional head",
    ),
    # At the image's own size nothing is enlarged.
    Pair(
        "score-cam",
        "pytorch-grad-cam/score-cam",
        ("cifar-resnet20:layer1",),
        params={"weight": "softmax-logit"},
        formula=post_processed,
    ),
    Pair(
        "score-cam",
        "torchcam/score-cam",
        ("cifar-resnet20:layer1",),
        params={"weight": "softmax-logit"},
    ),
    Pair(
        "score-cam",
        "pytorch-grad-cam/score-cam",
        ("cifar-resnet20:layer1",),
        formula=then_post_processed(masked_by(enlarged_by_corners)),
        differs="softmax of logits over channels",
    ),
    Pair(
        "score-cam",
        "torchcam/score-cam",
        ("cifar-resnet20:layer1",),
        formula=masked_by(scaled_then_enlarged),
        differs="softmax of logits over channels",
    ),
    Pair(
        "score-cam",
        "pytorch-grad-cam/score-cam",
        CIFAR,
        params={"weight": "softmax-logit"},
        formula=then_post_processed(masked_by(enlarged_by_corners)),
        own=masked_by(enlarged_then_scaled),
        differs="enlarges masks with aligned corners",
    ),
    Pair(
        "score-cam",
        "torchcam/score-cam",
        CIFAR,
        params={"weight": "softmax-logit"},
        formula=masked_by(scaled_then_enlarged),
        own=masked_by(enlarged_then_scaled),
        differs="scales masks before it enlarges them",
    ),
    Pair(
        "score-cam",
        "pytorch-grad-cam/score-cam",
        FEW_CHANNELS,
        params={"weight": "softmax-logit"},
        formula=then_post_processed(masked_by(enlarged_by_corners)),
        own=masked_by(enlarged_then_scaled),
        differs="enlarges masks with aligned corners",
        images=1,
        side=96,
    ),
    Pair(
        "score-cam",
        "torchcam/score-cam",
        FEW_CHANNELS,
        params={"weight": "softmax-logit"},
        formula=masked_by(scaled_then_enlarged),
        own=masked_by(enlarged_then_scaled),
        differs="scales masks before it enlarges them",
        images=1,
        side=96,
    ),
    Pair(
        "score-cam",
        "torchcam/is-cam",
        ("cifar-resnet20",),
        params={"weight": "softmax-logit"},
        their_params={"num_samples": 1},
        formula=masked_by(scaled_then_enlarged),
        own=masked_by(enlarged_then_scaled),
        differs="one step is torchcam's Score-CAM",
    ),
    *(
        Pair(
            ours,
            f"torchcam/{ours}",
            ("cifar-resnet20",),
            params=params,
            their_params=their_params,
            formula=masked_by(scaled_then_enlarged),
            differs="softmax of logits over channels, and scales masks before it enlarges them",
        )
        for ours, params, their_params in (
            ("is-cam", {"steps": 1}, {"num_samples": 1}),
            ("ss-cam", {"samples": 1, "deviation": 0.0}, {"num_samples": 1, "std": 1e-12}),
        )
    ),
    Pair(
        "score-cam",
        "torchcam/ss-cam",
        ("cifar-resnet20",),
        params={"weight": "softmax-logit"},
        their_params={"num_samples": 1, "std": 1e-12},
        formula=masked_by(scaled_then_enlarged),
        own=masked_by(enlarged_then_scaled),
        differs="without noise it is torchcam's Score-CAM",
    ),
    Pair("ablation-cam", "pytorch-grad-cam/ablation-cam", (*CIFAR, "resnet18"), formula=post_processed, images=1),
    Pair(
        "ablation-cam",
        "pytorch-grad-cam/ablation-cam",
        ("squeezenet1_0",),
        formula=post_processed,
        images=1,
        side=96,
    ),
    Pair(
        "ablation-cam",
        "pytorch-grad-cam/ablation-cam",
        CIFAR,
        params={"divide": "score"},
        formula=post_processed,
        rank=-1,
    ),
    Pair(
        "ablation-cam",
        "pytorch-grad-cam/ablation-cam",
        CIFAR,
        formula=divided_by_negative_scores,
        differs="divides by the score, which turns the map of a negative one",
        rank=-1,
    ),
    Pair(
        "ablation-cam",
        "pytorch-grad-cam/ablation-cam",
        ("cifar-resnet20:layer3.2.bn2", "efficientnet_b0:features.1", "mobilenet_v2:features.1"),
        formula=channels_filled_far_below,
        differs="fills channels with -1e7 and less where the smallest activation is not zero",
        images=1,
    ),
    Pair(
        "eigen-cam",
        "pytorch-grad-cam/eigen-cam",
        (*REAL, *PLAIN),
        params={"variant": "centred"},
        formula=at_the_sign_of_their_svd,
        differs="leaves the sign to the decomposition and rectifies",
    ),
    Pair(
        "eigen-cam",
        "pytorch-grad-cam/eigen-cam",
        (*REAL, "resnet18", "efficientnet_b0"),
        formula=centred_by_their_svd,
        differs="subtracts each channel's mean",
    ),
    Pair("kpca-cam", "pytorch-grad-cam/kpca-cam", (*CIFAR, "resnet18"), formula=post_processed, differs="rectifies"),
    Pair(
        "fem",
        "pytorch-grad-cam/fem",
        (*CIFAR, "squeezenet1_0"),
        formula=then_post_processed(shares_of_strong_positions),
        differs="weights the activations by the share of strong positions in their channel",
    ),
    Pair(
        "eigen-cam",
        "pytorch-grad-cam/kpca-cam",
        (*REAL, "resnet18", "efficientnet_b0"),
        params={"variant": "centred"},
        their_params={"kernel": "linear"},
        formula=post_processed,
        differs="rectifies",
    ),
    *(
        Pair(
            "full-grad",
            "pytorch-grad-cam/full-grad",
            places,
            params={"scaling": "channel"},
            formula=by_their_scaling(each_channel_to_one(1e-7, align_corners=False)),
            own=each_channel_to_one(0.0, align_corners=True),
            differs="enlarges without aligned corners",
            images=images,
        )
        for places, images in (((*CIFAR, "resnet18", "googlenet"), 3), (("squeezenet1_0", "densenet121"), 1))
    ),
    Pair(
        "full-grad",
        "pytorch-grad-cam/full-grad",
        CIFAR,
        formula=by_their_scaling(each_channel_to_one(1e-7, align_corners=False)),
        differs="brings the range of each channel to one, not that of each layer",
    ),
]
