"""The classifier: pixels outside, the network's own coordinates inside.

    pixels (N, C, H, W) in [0, 1] -> normalize -> network -> unwrap -> logits (N, K) -> probabilities (N, K)

Only the classifier knows mean and standard deviation. The network is borrowed: `borrowed()` gives it back as it was,
also after an exception, and its weights keep their memory layout.

What the outputs mean is said in head.py, how the network is given back in borrow.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor, nn

from xaikit.core.black_box import BlackBox, Gives, Takes
from xaikit.core.borrow import borrow, borrowing, unwrapped
from xaikit.core.context import out_of_memory
from xaikit.core.errors import BadInput, NoSuchLayer, XaikitError, XaikitWarning
from xaikit.core.head import (
    Output,
    as_logits,
    check_head,
    check_output,
    default_output,
    to_probabilities,
    unwrap_output,
)
from xaikit.core.identity import fingerprint, generator, model_fingerprint
from xaikit.core.image import Resize, decode, picture_name, to_pixels
from xaikit.core.outline import Outline, outline
from xaikit.core.probe import Layer, Probe, parse_layer
from xaikit.core.shapes import check_images

__all__ = ["Classifier", "Output", "check_classifier"]

ReadPolicy = Literal["weights", "squash", "native"]
Source = str | Path | Image

_NATIVE_PROBE = (64, 64)
_ROUNDING_STEPS = 256  # of the largest logit: what another memory format may change by rounding
_MOST_ROUNDING = 0.02
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)


class Classifier(nn.Module):
    """A CNN from pixels in [0, 1] to logits.

    Args:
        network: any module from (N, C, H, W) to logits (N, K), a tuple, a dict or an object with `.logits`.
        mean: per channel, in [0, 1]; None: pixels go in unchanged and may have any range.
        std: per channel; None is 1.
        size: input size (H, W) or one side; None reads pictures at their native size.
        labels: names of the K classes.
        layer: target layer of the activation methods, by dotted name or as a module; None finds it.
        output: what the logits mean; None: one logit is "binary", several are "softmax".
        channels: input channels; None takes them from the first convolution.
        resize: how `read` brings pictures to `size`; None squashes.
        memory_format: layout of the inputs where the network gives the same logits in it, contiguous elsewhere; None
            is contiguous.
        name: of the architecture, for reports.
        weights: of what it was trained on, for reports.

    Raises:
        BadInput: an argument that does not fit, or a model that already gives one logit for "softmax".
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        size: tuple[int, int] | int | None = None,
        labels: Sequence[str] | None = None,
        layer: str | nn.Module | None = None,
        output: Output | None = None,
        *,
        channels: int | None = None,
        resize: Resize | None = None,
        memory_format: torch.memory_format | None = torch.channels_last,
        name: str = "",
        weights: str = "",
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise BadInput(f"network: expected a torch.nn.Module, got {type(network).__name__}; wrap a function in one")
        if isinstance(network, Classifier):
            raise BadInput("network: expected the bare network, got a Classifier; use it as it is")
        if any(tensor.is_inference() for tensor in _tensors(network)):
            raise BadInput(
                "network: expected ordinary weights, got inference tensors; load it outside inference_mode()"
            )
        check_output(output)
        self.network = network
        self.channels = _first_channels(network) if channels is None else channels
        self.size = _size(size)
        if resize is not None and not callable(resize):
            raise BadInput(f"resize: expected a Resize, got {resize!r}; leave it out to squash pictures to `size`")
        self.resize = resize or Resize("native" if self.size is None else "squash", self.size)
        self.name = name or type(unwrapped(network)).__name__
        self.weights = weights
        self._output = output
        self._labels = None if labels is None else _names(labels)
        self._wanted_format = memory_format
        self._memory_format = torch.contiguous_format
        self._borrowed = False
        self.bounded = mean is not None or std is not None
        self._seen: Outline | None = None
        self._sizes: set[tuple[int, int]] = set()
        self._fingerprint: tuple[Any, str] | None = None
        with torch.inference_mode(False):
            self.register_buffer("mean", self._colour(mean, 0.0, "mean"), persistent=False)
            self.register_buffer("std", self._colour(std, 1.0, "std"), persistent=False)
        self._layer = self._asked_layer(layer)

    mean: Tensor
    std: Tensor

    @classmethod
    def from_function(
        cls,
        function: Callable[[Any], Any],
        labels: Sequence[str] | None = None,
        size: tuple[int, int] | int | None = None,
        *,
        output: Output = "softmax",
        gives: Gives = "probabilities",
        takes: Takes = "numpy",
        channels: int = 3,
        mean: Sequence[float] | float = 0.5,
        name: str = "",
    ) -> Classifier:
        """Return a classifier round a function, for the methods that need neither gradients nor layers.

        Args:
            function: from pixels (N, C, H, W) in [0, 1] to probabilities (N, K), such as an ONNX session's run.
            labels: names of the K classes.
            size: input size (H, W) or one side; None takes images of any size.
            output: "softmax" probabilities sum to 1, "sigmoid" each stands for itself, "binary" one an image,
                "regression" values.
            gives: "logits" if the function gives no probabilities.
            takes: NumPy arrays or torch tensors, float32.
            channels: of the images.
            mean: colour that stands for removed pixels where a method fills with "mean".
            name: for reports.

        Raises:
            BadInput: no function, or an argument that does not fit.
        """
        check_output(output)
        box = BlackBox(function, output, gives, takes, mean)
        return cls(box, mean, None, size, labels, output=output, channels=channels, name=name or box.name)

    def _colour(self, values: Sequence[float] | float | None, default: float, name: str) -> Tensor:
        given = default if values is None else values
        given = given.tolist() if hasattr(given, "tolist") else given
        listed = list(given) if isinstance(given, Sequence) else [given]
        listed = listed * self.channels if len(listed) == 1 else listed
        if len(listed) != self.channels or not all(isinstance(value, int | float) for value in listed):
            raise BadInput(f"{name}: expected {self.channels} numbers, one a channel, got {values}; match the channels")
        if (name == "std" and min(listed) <= 0) or (name == "mean" and not 0 <= min(listed) <= max(listed) <= 1):
            interval = "in [0, 1]" if name == "mean" else "above 0"
            raise BadInput(f"{name}: expected numbers {interval}, got {values}; pixels are in [0, 1], not in [0, 255]")
        return torch.tensor(listed, dtype=torch.float32, device=self.device).reshape(1, -1, 1, 1)

    # ---- from pixels to probabilities -------------------------------------------------------------------------------

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, K) of pixels (N, C, H, W).

        Raises:
            BadInput: not (N, C, H, W), or far outside [0, 1] although the classifier normalises, or not finite.
        """
        check_images(pixels, self.channels)
        self._check_range(pixels)
        return self.logits(self.normalize(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return `(pixels - mean) / std`, the network's own coordinates."""
        return (pixels - self.mean.to(pixels)) / self.std.to(pixels)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (N, K), at least float32, of inputs (N, C, H, W) in the network's own coordinates."""
        seen = self.outline(inputs.shape[-2:])
        fitted = self._fit(inputs)
        if seen.writes_input and fitted is inputs:
            fitted = inputs.clone()
        outputs = unwrap_output(self.module(fitted), seen.classes)
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        return as_logits(outputs, self.output, seen.ends_in)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return probabilities (N, K) of pixels (N, C, H, W); the logits themselves for regression."""
        return self.to_probabilities(self(pixels))

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities (N, K) of logits (N, K): softmax, or a sigmoid a class.

        A regression has none: the values are returned unchanged, and methods that need probabilities refuse.
        """
        return to_probabilities(logits, self.output)

    def _fit(self, inputs: Tensor) -> Tensor:
        """Bring inputs to the network's type, unless autocast does, and to the memory format that it runs in."""
        if not torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.to(self.dtype)
        return inputs.contiguous(memory_format=self._memory_format)

    # ---- what the network is ----------------------------------------------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """The network without DataParallel or torch.compile round it."""
        return unwrapped(self.network)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((tensor.device for tensor in _tensors(self.network)), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The network's floating type."""
        return next((t.dtype for t in _tensors(self.network) if t.is_floating_point()), torch.float32)

    @property
    def output(self) -> Output:
        """What the logits mean."""
        if self._output is None:
            self.outline()
            assert self._output is not None
        return self._output

    @property
    def labels(self) -> list[str] | None:
        """Names of the K classes, or None."""
        if self._labels is None and self.output == "binary":
            return ["negative", "positive"]
        return self._labels

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return 2 if self.output == "binary" else self.outline().classes

    @property
    def layer(self) -> str:
        """Name of the target layer.

        Raises:
            BadInput: the network has no layer that enters a pooling or a flattening; the message lists its layers.
        """
        return str(self.resolve_layer(None))

    def layers(self) -> dict[str, tuple[int, int, int]]:
        """Return every module whose output is (N, C, h, w), as name -> (C, h, w), in the order of execution."""
        return dict(self.outline().layers)

    def resolve_layer(self, layer: str | nn.Module | None) -> Layer:
        """Return the layer that a name, a module or None (the classifier's own) means.

        Raises:
            NoSuchLayer: no such name in the network.
            BadInput: the module is not in the network, or no default exists.
        """
        if isinstance(self.module, BlackBox):
            raise BadInput(self.module.refusal("layers"))
        if layer is not None:
            asked = self._asked_layer(layer)
            assert asked is not None
            return self._default_if_same(asked)
        if self._layer is not None:
            return self._default_if_same(self._layer)
        default = self.outline().default
        if default is None:
            known = ", ".join(f"{name} {shape}" for name, shape in list(self.layers().items())[-6:])
            raise BadInput(
                f"layer: found no default target layer in {self.name}; give one of: {known or 'it has none'}"
            )
        return default

    def _default_if_same(self, asked: Layer) -> Layer:
        """Take the default's functional ReLU along when its name is asked for."""
        default = self.outline().default
        return default if default is not None and str(default) == str(asked) else asked

    def _asked_layer(self, layer: str | nn.Module | None) -> Layer | None:
        if layer is None:
            return None
        names = {name: module for name, module in self.module.named_modules(remove_duplicate=False) if name}
        if isinstance(layer, nn.Module):
            name = next((name for name, module in names.items() if module is layer), None)
            if name is None:
                raise BadInput(
                    f"layer: expected a module of the network, got another {type(layer).__name__}; give its name"
                )
            return Layer(name)
        if not isinstance(layer, str):
            raise BadInput(f"layer: expected a name or a module, got {type(layer).__name__}; layers() lists the names")
        asked = parse_layer(layer)
        if asked.name not in names:
            asked = parse_layer(layer.removeprefix("module."))
        if asked.name not in names:
            raise NoSuchLayer(asked.name, names)
        return asked

    def outline(self, size: Sequence[int] | None = None) -> Outline:
        """Return what one forward shows about the network; run once, at `size` = (H, W) if the classifier has none.

        Raises:
            BadInput: the network cannot run on such an image, or the head or the labels do not fit it.
        """
        if self._seen is None:
            height, width = self.size or tuple(size or _NATIVE_PROBE)
            seen = self._look((1, self.channels, height, width))
            output = self._output or default_output(seen.classes, seen.ends_in)
            check_head(self.name, output, seen.classes, seen.ends_in, self._labels)
            self._seen, self._output = seen, output
            if self._wanted_format is not None and self._gives_the_same_in(self._wanted_format, seen):
                self._memory_format = self._wanted_format
            _warn_of_batch_statistics(self.module)
        return self._seen

    def _look(self, shape: tuple[int, int, int, int]) -> Outline:
        with self.borrowed(), torch.no_grad():
            inputs = self._noise(shape)
            try:
                seen = outline(self.module, inputs, unwrap_output)
                return replace(seen, ends_in="logits") if isinstance(self.module, BlackBox) else seen
            except _FAILURES as error:
                if isinstance(error, XaikitError) or out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())
                raise BadInput(
                    f"network: expected {self.name} to run on an image {shape}, got {type(error).__name__}: {reason}; "
                    "say size=(H, W) and channels="
                ) from error

    def _noise(self, shape: tuple[int, int, int, int]) -> Tensor:
        noise = torch.rand(shape, generator=generator(0, "outline"), device="cpu")
        return self._fit(self.normalize(noise.to(self.device)))

    def _gives_the_same_in(self, memory_format: torch.memory_format, seen: Outline) -> bool:
        """Say whether the network can run in a memory format and gives the same logits in it."""
        with self.borrowed(), torch.no_grad():
            inputs = self._noise((1, self.channels, *seen.size)).clone(memory_format=memory_format)
            try:
                outputs = unwrap_output(self.module(inputs), seen.classes)
            except _FAILURES:
                return False
        rounding = min(_ROUNDING_STEPS * torch.finfo(outputs.dtype).eps, _MOST_ROUNDING)
        difference = (outputs - seen.outputs).abs().max()
        return bool(difference <= rounding * seen.outputs.abs().max())

    def _try_size(self, height: int, width: int) -> None:
        """Run one image of a new size, so that a size which the network cannot take is one clear line."""
        if (height, width) not in self._sizes | {self.outline((height, width)).size}:
            self._look((1, self.channels, height, width))
            self._sizes.add((height, width))

    def activation_bytes(self, size: Sequence[int]) -> int:
        """Return the memory of all activations for one image of `size` = (H, W)."""
        seen = self.outline(size)
        height, width = seen.size
        return int(seen.activation_bytes * size[0] * size[1] / (height * width))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of weights and preprocessing, taken again only when a weight was written."""
        state = [(id(tensor), tensor._version) for tensor in _tensors(self.network)]
        if self._fingerprint is None or self._fingerprint[0] != state:
            about = {
                "weights": model_fingerprint(self.module),
                "mean": self.mean.flatten().tolist(),
                "std": self.std.flatten().tolist(),
                "output": self.output,
                "channels": self.channels,
            }
            self._fingerprint = state, fingerprint(about)
        return self._fingerprint[1]

    # ---- reading pictures -------------------------------------------------------------------------------------------

    def read(self, sources: Source | Iterable[Source], resize: ReadPolicy | None = None) -> Tensor:
        """Read pictures as one batch of pixels (N, C, H, W) in [0, 1] on the classifier's device.

        Args:
            sources: path, PIL picture, or several of them.
            resize: "weights" as the classifier was built, "squash" both sides to its size, "native" unchanged.

        Raises:
            BadInput: a file that cannot be read, named; or native sizes that differ.
        """
        images = []
        for source, image in self.read_each(sources, resize):
            if isinstance(image, XaikitError):
                raise image
            images.append(image)
            if image.shape != images[0].shape:
                first, other = tuple(images[0].shape[1:]), tuple(image.shape[1:])
                raise BadInput(
                    f"{source}: expected the first picture's size {first}, got {other}; read them one at a time"
                )
        if not images:
            raise BadInput("read: expected at least one picture, got none; give paths")
        return torch.stack(images).to(self.device)

    def read_each(
        self, sources: Source | Iterable[Source], resize: ReadPolicy | None = None
    ) -> Iterator[tuple[Source, Tensor | XaikitError]]:
        """Yield each source with its pixels (C, H, W), or with the error that says why it cannot be read."""
        policy = self._policy(resize)
        for source in _several(sources):
            try:
                yield source, to_pixels(policy(decode(source, self.channels), picture_name(source)))
            except XaikitError as error:
                yield source, error

    def _policy(self, resize: ReadPolicy | None) -> Resize:
        if resize is None or resize == "weights":
            return self.resize
        if resize == "squash":
            if self.size is None:
                raise BadInput("resize: squash needs the classifier's size, got none; build it with size=(H, W)")
            return Resize("squash", self.size, interpolation=self.resize.interpolation)
        if resize == "native":
            return Resize("native")
        raise BadInput(f"resize: expected weights, squash or native, got {resize!r}; choose one")

    # ---- borrowing --------------------------------------------------------------------------------------------------

    def check(self, pixels: Tensor) -> Tensor:
        """Return `pixels` on the classifier's device and in its type, at least float32, ready to be explained.

        Raises:
            BadInput: not (N, C, H, W), or far outside [0, 1] although the classifier normalises, or not finite, or of
                a size that the network cannot take.
        """
        check_images(pixels, self.channels)
        with torch.inference_mode(False):
            pixels = pixels.detach().to(self.device, torch.promote_types(self.dtype, torch.float32))
            pixels = pixels.clone() if pixels.is_inference() else pixels
        if pixels.numel() == 0:
            return pixels
        self._check_range(pixels)
        self._try_size(pixels.shape[2], pixels.shape[3])
        return pixels

    def _check_range(self, pixels: Tensor) -> None:
        if not pixels.numel():
            return
        low, high = (float(end) for end in pixels.detach().aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadInput("inputs: expected finite pixels, got NaN or infinity; check how they were read")
        if self.bounded and (low < -0.25 or high > 1.25):
            raise BadInput(
                f"inputs: expected pixels in [0, 1], got {low:.3g} to {high:.3g}; "
                "give them before normalisation, the classifier normalises inside"
            )

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Yield the network in eval mode without weight gradients; give it back exactly as it was.

        Inside another `borrowed()` it does nothing; another thread waits until the network is given back.
        """
        with borrowing(self.network):
            if self._borrowed:
                yield self.module
                return
            self._borrowed = True
            try:
                with borrow(self.network, self.device):
                    yield self.module
            finally:
                self._borrowed = False

    def probe(self) -> Probe:
        """Return a probe of the unwrapped network, for a `with` block inside `borrowed()`."""
        return Probe(self.module)


def check_classifier(classifier: object) -> None:
    """Refuse anything but a `Classifier`, such as the bare network.

    Raises:
        BadInput: something else; the message says how to make one.
    """
    if not isinstance(classifier, Classifier):
        remedy = "wrap it: xaikit.Classifier(model)" if isinstance(classifier, nn.Module) else "use xaikit.load"
        raise BadInput(f"classifier: expected a Classifier, got {type(classifier).__name__}; {remedy}")


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def _first_channels(network: nn.Module) -> int:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def _names(labels: Any) -> list[str]:
    """Return the names of the classes, of a sequence or of a dictionary by class index."""
    if isinstance(labels, Mapping) and set(labels) == set(range(len(labels))):
        labels = [labels[index] for index in range(len(labels))]
    if isinstance(labels, str | Mapping) or not isinstance(labels, Iterable):
        raise BadInput(f"labels: expected a name for each class, got {labels!r}; give a list of names")
    return [str(label) for label in labels]


def _several(sources: Any) -> Iterable[Any]:
    if isinstance(sources, str | Path | Image | bytes | Tensor) or not isinstance(sources, Iterable):
        return [sources]
    return sources


def _warn_of_batch_statistics(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            warnings.warn(
                f"network: expected BatchNorm with running statistics, got none in {name!r}: an image's answer depends "
                "on its batch; explain with chunk_size=1",
                XaikitWarning,
                stacklevel=3,
            )
            return


def _size(size: Sequence[int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise BadInput(f"size: expected (H, W) or one side, got {size}; give for example size=(224, 224)")
    return both[0], both[1]
