"""TextureViT: a small vision transformer for the synthetic images of `images/synthetic.py`.

    3 x (conv 3x3/2 -> BatchNorm -> ReLU) with 16, 32 and 64 channels -> conv 1x1 (64)
    -> H/8 * W/8 patch tokens and a class token, plus a learned embedding of each position
    -> 4 x (LayerNorm -> attention with 4 heads; LayerNorm -> linear (128), GELU, linear (64)), each with a residual
    -> LayerNorm -> linear, of the class token

Shapes: inputs (N, C, S, S), normalised, S the size the network was built for, a multiple of 8; logits (N, classes).
Size:   166,486 parameters for 3 channels, 6 classes and 64 pixels.
Source: Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; torchvision's VisionTransformer. The convolutions in place of
    one linear map of each patch are of Xiao et al., NeurIPS 2021, arXiv:2106.14881.
"""

from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from xaikit.foundation.errors import BadInput
from xaikit.zoo.architectures.torchvision_networks import with_input_channels
from xaikit.zoo.registry import register_architecture

_PATCH = 8


@register_architecture("texture-vit", size=64)
def texture_vit(classes: int, channels: int, size: int) -> nn.Module:
    """Return the transformer with random weights.

    Raises:
        BadInput: the size is not a multiple of the patches' 8 pixels.
    """
    if size % _PATCH:
        raise BadInput(f"texture-vit: expected a size that is a multiple of {_PATCH}, got {size}")
    network = VisionTransformer(
        image_size=size,
        patch_size=_PATCH,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=classes,
        conv_stem_configs=[ConvStemConfig(width, kernel_size=3, stride=2) for width in (16, 32, 64)],
    )
    return network if channels == 3 else with_input_channels(network, channels)
