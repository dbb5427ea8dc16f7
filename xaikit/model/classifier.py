"""The classifier: pixels outside, the network's own coordinates inside.

    pixels (N, C, H, W) in [0, 1] -> normalize -> network -> unwrap -> logits (N, K) -> probabilities (N, K)

Only the classifier knows mean and standard deviation. The network is borrowed: `borrowed()` gives it back as it was,
also after an exception, and its weights keep their memory layout.

What the outputs mean is said in head.py, how the network is given back in borrow.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.identity import fingerprint, generator
from xaikit.images.reading import ReadPolicy, Resize, Source, read_batch, read_each, resize_policy
from xaikit.images.shapes import check_images, check_range
from xaikit.model.borrow import borrow, unwrapped
from xaikit.model.fingerprint import model_fingerprint
from xaikit.model.function import BlackBox, Gives, Takes
from xaikit.model.hooks import Layer, Probe
from xaikit.model.inspection import inspect, look, warn_of_batch_statistics
from xaikit.model.layers import Outline, find_layer
from xaikit.model.outputs import Output, as_logits, check_output, meaning, to_probabilities, unwrap_output
from xaikit.model.preprocessing import check_network, class_names, first_channels, input_size, own_resize, per_channel

_NATIVE_PROBE = (64, 64)


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
        if isinstance(network, Classifier):
            raise BadInput("network: expected the bare network, got a Classifier; use it as it is")
        check_network(network)
        check_output(output)
        self.network = network
        self.channels = first_channels(network) if channels is None else channels
        self.size = input_size(size)
        self.resize = own_resize(resize, self.size)
        self.name = name or type(unwrapped(network)).__name__
        self.weights = weights
        self._output = output
        self._labels = None if labels is None else class_names(labels)
        self._wanted_format = memory_format
        self._memory_format = torch.contiguous_format
        self.bounded = mean is not None or std is not None
        self._seen: Outline | None = None
        self._sizes: set[tuple[int, int]] = set()
        with torch.inference_mode(False):
            for name, values, default in (("mean", mean, 0.0), ("std", std, 1.0)):
                numbers = torch.tensor(per_channel(values, self.channels, default, name), device=self.device)
                self.register_buffer(name, numbers.reshape(1, -1, 1, 1), persistent=False)
        self._layer = None if layer is None else find_layer(self.module, layer)

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

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, K) of pixels (N, C, H, W).

        Raises:
            BadInput: not (N, C, H, W), or far outside [0, 1] although the classifier normalises, or not finite.
        """
        check_images(pixels, self.channels)
        check_range(pixels, bounded=self.bounded)
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
        asked = self._layer if layer is None else find_layer(self.module, layer)
        default = self.outline().default
        if asked is None and default is None:
            known = ", ".join(f"{name} {shape}" for name, shape in list(self.layers().items())[-6:])
            raise BadInput(
                f"layer: found no default target layer in {self.name}; give one of: {known or 'it has none'}"
            )
        if asked is None or str(default) == str(asked):
            assert default is not None  # with its functional ReLU, when it is asked for by name
            return default
        return asked

    def outline(self, size: Sequence[int] | None = None) -> Outline:
        """Return what one forward shows about the network; run once, at `size` = (H, W) if the classifier has none.

        Raises:
            BadInput: the network cannot run on such an image, or the head or the labels do not fit it.
        """
        if self._seen is None:
            with self.borrowed(), torch.no_grad():
                inputs = self._noise(self.size or size or _NATIVE_PROBE)
                seen, self._memory_format = inspect(self.module, inputs, self.name, self._wanted_format)
            self._output = meaning(self._output, seen, self._labels, self.name)
            self._seen = seen
            warn_of_batch_statistics(self.module)
        return self._seen

    def _noise(self, size: Sequence[int]) -> Tensor:
        """Return one image of noise (1, C, H, W), in the network's coordinates."""
        noise = torch.rand(1, self.channels, *size, generator=generator(0, "outline"), device="cpu")
        return self._fit(self.normalize(noise.to(self.device)))

    def _try_size(self, height: int, width: int) -> None:
        """Run one image of a new size, so that a size which the network cannot take is one clear line."""
        if (height, width) not in self._sizes | {self.outline((height, width)).size}:
            with self.borrowed(), torch.no_grad():
                look(self.module, self._noise((height, width)), self.name)
            self._sizes.add((height, width))

    def activation_bytes(self, size: Sequence[int]) -> int:
        """Return the memory of all activations for one image of `size` = (H, W)."""
        return self.outline(size).bytes_at(size)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of weights and preprocessing, computed from what they hold now."""
        colours = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        weights = model_fingerprint(self.module)
        return fingerprint({"weights": weights, **colours, "output": self.output, "channels": self.channels})

    def read(self, sources: Source | Iterable[Source], resize: ReadPolicy | None = None) -> Tensor:
        """Read pictures as one batch of pixels (N, C, H, W) in [0, 1] on the classifier's device.

        Args:
            sources: path, PIL picture, or several of them.
            resize: "weights" as the classifier was built, "squash" both sides to its size, "native" unchanged.

        Raises:
            BadInput: a file that cannot be read, named; or native sizes that differ.
        """
        return read_batch(sources, self.channels, resize_policy(resize, self.resize)).to(self.device)

    def read_each(
        self, sources: Source | Iterable[Source], resize: ReadPolicy | None = None
    ) -> Iterator[tuple[Source, Tensor | XaikitError]]:
        """Yield each source with its pixels (C, H, W), or with the error that says why it cannot be read."""
        return read_each(sources, self.channels, resize_policy(resize, self.resize))

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
        check_range(pixels, bounded=self.bounded)
        self._try_size(pixels.shape[2], pixels.shape[3])
        return pixels

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Yield the network in eval mode without weight gradients; give it back exactly as it was.

        Inside another `borrowed()` it does nothing; another thread waits until the network is given back.
        """
        with borrow(self.network, self.device):
            yield self.module

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
