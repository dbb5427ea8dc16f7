"""What is known of a network's pictures: mean, standard deviation, size, crop, interpolation and labels.

    transform=            a transform of torchvision or timm, or an image processor of transformers
    timm                  network.pretrained_cfg
    transformers          network.config.id2label, and the image processor that lies beside the weights

What the user gives comes first: a mean or a standard deviation replaces both, a size or a resize the way of resizing.
What is none of these steps is refused, because pictures prepared in another way give other maps.

    Resize(s), CenterCrop(h, w)      Resize("crop", (h, w), s)
    Resize((h, w))                   Resize("squash", (h, w))
    Normalize(mean, std)             mean, std
    ToTensor and its kin             nothing: pixels are in [0, 1] already
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import nn

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.reading import Interpolation, Resize
from xaikit.model.borrow import unwrapped

_NEUTRAL = frozenset(
    {"ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage", "ToPureTensor", "ToDtype", "ToRGB"}
    | {"ConvertImageDtype"}
)
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class Facts:
    """What is known of a network's pictures; None is not known.

    Args:
        mean: mean of each channel.
        std: standard deviation of each channel.
        size: input size (H, W), or the side of a square.
        resize: how pictures are brought to `size`.
        labels: names of the classes.
    """

    mean: Any = None
    std: Any = None
    size: Any = None
    resize: Any = None
    labels: Any = None


def facts_of(network: nn.Module, transform: Any, channels: int, given: Facts) -> Facts:
    """Return what the user gives, completed by what the transform or the network tells.

    Args:
        network: the network.
        transform: the user's transform, or None.
        channels: number of input channels; a mean of another number of channels is not taken from the network.
        given: what the user gives.

    Raises:
        BadInput: a step of the transform cannot be read, or one is missing.
    """
    named = given.resize if given.resize in ("squash", "pad", "native") else None
    given = given if named is None else replace(given, resize=None)  # another way, of the size that is known
    known = _of_network(unwrapped(network), channels)
    if transform is not None:
        known = replace(_of_transform(transform, given), labels=known.labels)
    colours = given if given.mean is not None or given.std is not None else known
    sizes = given if given.size is not None or given.resize is not None else known
    labels = known.labels if given.labels is None else given.labels
    resize = sizes.resize
    if named is not None:
        resize = named if resize is None else replace(resize, kind=named, short=None)
    return Facts(colours.mean, colours.std, sizes.size, resize, labels)


def _of_network(network: nn.Module, channels: int) -> Facts:
    timm = getattr(network, "pretrained_cfg", None)
    if isinstance(timm, Mapping) and "input_size" in timm:
        known = _of_timm(network, timm)
    elif isinstance(getattr(getattr(network, "config", None), "id2label", None), Mapping):
        known = _of_transformers(network.config)
    else:
        return Facts()
    fits = known.mean is None or len(known.mean) == channels
    return known if fits else replace(known, mean=None, std=None)


def _of_timm(network: nn.Module, known: Mapping[str, Any]) -> Facts:
    _, height, width = known["input_size"]
    share, mode, kind = known.get("crop_pct") or 0.875, known.get("crop_mode") or "center", known.get("interpolation")
    interpolation = cast("Interpolation", kind if kind in _FILTERS.values() else "bilinear")
    classes, names = getattr(network, "num_classes", None), known.get("label_names")
    if names is None and classes == 1000 and "in1k" in f"{known.get('tag')} {known.get('hf_hub_id')}":
        names = _imagenet_names()
    if mode == "center" and height == width:
        resize = Resize("crop", (height, width), math.floor(height / share), interpolation)
    else:
        resize = Resize("squash", (height, width), interpolation=interpolation)
        if share != 1 or mode not in ("center", "squash"):
            warnings.warn(
                f"network: its pictures are cropped by timm's mode {mode!r} to {height}x{width} of {share:.0%}, which "
                "is not known here; they are squashed: give resize= for another way",
                XaikitWarning,
                stacklevel=5,
            )
    labels = names if names is not None and len(names) == classes else None
    return Facts(known.get("mean"), known.get("std"), (height, width), resize, labels)


def _imagenet_names() -> Sequence[str]:
    from torchvision.models import ResNet18_Weights

    names: Sequence[str] = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return names


def _of_transformers(config: Any) -> Facts:
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    labels = None if all(_UNNAMED.fullmatch(name) for name in names) else names
    place, size = getattr(config, "name_or_path", ""), getattr(config, "image_size", None)
    if not place:
        return Facts(size=size, labels=labels)
    import transformers

    try:
        reader: Any = transformers.AutoImageProcessor
        processor = reader.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, ImportError):  # no processor beside the weights: the mean is not known
        return Facts(size=size, labels=labels)
    return replace(_of_processor(processor, Facts()), labels=labels)


def _of_transform(transform: Any, given: Facts) -> Facts:
    if hasattr(transform, "image_mean"):
        return _of_processor(transform, given)
    if all(hasattr(transform, name) for name in ("crop_size", "resize_size", "mean", "std", "interpolation")):
        (side,), (short,) = transform.crop_size, transform.resize_size  # torchvision's ImageClassification
        resize = Resize("crop", (side, side), short, _filter(transform.interpolation))
        return Facts(list(transform.mean), list(transform.std), (side, side), resize)
    steps = getattr(transform, "transforms", None)
    if steps is None:
        steps = [transform]
    return _of_steps(steps, given)


def _of_steps(steps: Sequence[Any], given: Facts) -> Facts:
    scaled: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    colours: tuple[Any, Any] | None = None
    interpolation: Interpolation = "bilinear"
    for step in steps:
        name = type(step).__name__
        if name == "Resize" and scaled is None and crop is None and getattr(step, "max_size", None) is None:
            scaled, interpolation = _sides(step.size), _filter(step.interpolation)
        elif name == "CenterCrop" and crop is None:
            crop = _sides(step.size) * (1 if len(_sides(step.size)) == 2 else 2)
        elif name == "Normalize" and colours is None:
            colours = _numbers(step.mean), _numbers(step.std)
        elif name not in _NEUTRAL or colours is not None:
            raise BadInput(
                f"transform: expected Resize, CenterCrop, ToTensor and Normalize, once each and in this order, got "
                f"{' '.join(repr(step).split())}; give mean=, std=, size= and resize= instead"
            )
    if colours is None and given.mean is None and given.std is None:
        raise BadInput("transform: expected Normalize in it, got none; add it, or give mean= and std=")
    mean, std = colours or (None, None)
    if given.size is not None or given.resize is not None or (scaled is None and crop is None):
        return Facts(mean, std)
    if scaled is None:
        raise BadInput("transform: expected Resize before CenterCrop, got none; add it, or give size=")
    if crop is None and len(scaled) == 1:
        raise BadInput(
            f"transform: expected CenterCrop after Resize({scaled[0]}), which keeps the sides' ratio, got none; add "
            f"it, or Resize((H, W)), or give size="
        )
    if crop is None or scaled == crop:
        return Facts(mean, std, scaled, Resize("squash", (scaled[0], scaled[1]), interpolation=interpolation))
    if len(scaled) == 2:
        raise BadInput(f"transform: expected Resize of the short side before CenterCrop, got {scaled}; give size=")
    return Facts(mean, std, crop, Resize("crop", (crop[0], crop[1]), scaled[0], interpolation))


def _of_processor(processor: Any, given: Facts) -> Facts:
    """Return the facts of an image processor of transformers."""
    known: Mapping[str, Any] = processor.to_dict()
    kind = known.get("image_processor_type", type(processor).__name__)
    if known.get("do_rescale", True) and abs(known.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise BadInput(
            f"transform: expected pixels scaled by 1/255, got {known['rescale_factor']}; give mean= and std="
        )
    normalises = known.get("do_normalize", True) and known.get("image_mean") is not None
    mean, std = (known["image_mean"], known["image_std"]) if normalises else ([0.0] * 3, [1.0] * 3)
    if given.size is not None or given.resize is not None or not known.get("do_resize", True):
        return Facts(mean, std)
    size, crop = known.get("size") or {}, known.get("crop_size") or {}
    interpolation = _filter(known.get("resample", 2))
    short, both = size.get("shortest_edge"), [size[side] for side in ("height", "width") if side in size]
    if short is not None and known.get("crop_pct") is not None:  # ConvNeXT's: squashed from 384 on
        if short >= 384:
            return Facts(mean, std, short, Resize("squash", (short, short), interpolation=interpolation))
        return Facts(mean, std, short, Resize("crop", (short, short), int(short / known["crop_pct"]), interpolation))
    if len(both) == 2 and not known.get("do_center_crop", False):
        return Facts(mean, std, both, Resize("squash", (both[0], both[1]), interpolation=interpolation))
    if short is not None and known.get("do_center_crop", False) and {"height", "width"} <= set(crop):
        side = (crop["height"], crop["width"])
        return Facts(mean, std, side, Resize("crop", side, short, interpolation))
    raise BadInput(
        f"transform: expected height and width, or shortest_edge and a crop, got {size} in {kind}; give size="
    )


def _sides(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(int(side) for side in size)


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values]


def _filter(interpolation: Any) -> Interpolation:
    """Return the name of an interpolation of torchvision, Pillow or timm.

    Raises:
        BadInput: pictures are not read with it.
    """
    value = getattr(interpolation, "value", interpolation)
    name = _FILTERS.get(value, str(value)) if isinstance(value, int) else str(value)
    if name not in _FILTERS.values():
        raise BadInput(f"transform: expected one of {', '.join(_FILTERS.values())}, got {name}; give size= and resize=")
    return cast("Interpolation", name)


def warn_of_pixels(name: str) -> None:
    """Warn of pictures that are read for a network whose mean and standard deviation are not known."""
    warnings.warn(
        f"{name}: neither mean nor std is known, pixels in [0, 1] go in unchanged; networks trained on ImageNet expect "
        "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225): give them, or transform=; mean=0 says none is needed",
        XaikitWarning,
        stacklevel=5,
    )
