"""The classifier: pixels outside, the network's normalised coordinates inside.

    pixels (N, C, H, W) in [0, 1] -> normalize -> network -> unwrap -> logits (N, K) -> probabilities (N, K)

Only the classifier knows the mean and standard deviation. `borrowed()` restores the network when its block ends, also
after an exception, and the weights keep their memory layout (borrow.py). outputs.py defines the meaning of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import fingerprint, generator
from xaikit.images.reading import Inputs, Pictures, ReadPolicy, Resize
from xaikit.images.shapes import check_images, check_range
from xaikit.model.borrow import borrow, draws, tensors, unwrapped
from xaikit.model.build import facts
from xaikit.model.facts import Facts, facts_of
from xaikit.model.fingerprint import model_fingerprint
from xaikit.model.function import BlackBox, Gives, Scripted, Takes
from xaikit.model.hooks import Layer, Probe
from xaikit.model.inspection import Outlines, inspect, look, warn_of_mixing, warn_of_randomness
from xaikit.model.layers import Outline, find_layer
from xaikit.model.outputs import Output, check_output, meaning, run, to_probabilities
from xaikit.model.picture_reader import PictureReader
from xaikit.model.preprocessing import check_network, class_names, first_channels, input_size, own_resize, per_channel
from xaikit.model.selection import Select, Selection


class Classifier(PictureReader):
    """An image network with its preprocessing: maps pixels in [0, 1] to logits.

    Args:
        network: module from (N, C, H, W) to logits (N, K), or to an output from which `select` takes them.
        mean: mean of each channel, in [0, 1]; with neither mean nor std those of `transform`, timm or transformers, and
            where none is known, pixels pass on unchanged, in any range.
        std: standard deviation of each channel; None is 1.
        size: input size (H, W), or the side of a square; None reads pictures at their native size.
        labels: names of the K classes.
        layer: target layer of the activation methods, a dotted name or a module; None finds it. Of a list, methods that
            fuse layers take all, others the last.
        output: meaning of the logits; None takes one logit as "binary" and several as "softmax".
        transform: torchvision or timm transform that gives mean, std, size and resize (facts.py).
        select: what of the network's output are the logits: a key, an attribute, an index, or a callable such as
            `lambda out: out["out"].mean((2, 3))` for a segmentation network; None finds them (selection.py).
        channels: number of input channels; None finds it.
        resize: how `read` brings pictures to `size`: also "squash", "pad" or "native"; None squashes them.
        memory_format: memory format of the inputs, where the network gives the same logits in it; else contiguous.
        name: name of the architecture, for reports.
        weights: name of the weights, for reports.

    Raises:
        BadInput: an argument is invalid.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        size: tuple[int, int] | int | None = None,
        labels: Sequence[str] | None = None,
        layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
        output: Output | None = None,
        *,
        transform: Any = None,
        select: Select | None = None,
        channels: int | None = None,
        resize: Resize | ReadPolicy | None = None,
        memory_format: torch.memory_format | None = torch.channels_last,
        name: str = "",
        weights: str = "",
    ) -> None:
        super().__init__()
        if isinstance(network, Classifier):
            raise BadInput("network: expected the bare network, got a Classifier; use it as it is")
        check_network(network)
        check_output(output)
        self.network = Scripted(network) if isinstance(network, torch.jit.ScriptModule) else network
        self.channels = first_channels(network, size) if channels is None else channels
        facts = facts_of(network, transform, self.channels, Facts(mean, std, size, resize, labels))
        self.size = input_size(facts.size)
        self.name = name or type(unwrapped(network)).__name__
        self.weights = weights
        self._asked = self._output = output
        self._select = Selection(select)
        self._labels = None if facts.labels is None else class_names(facts.labels)
        self._wanted_format = memory_format
        self._memory_format = torch.contiguous_format
        self._told = self.bounded = facts.mean is not None or facts.std is not None
        self._outlines = Outlines()
        with torch.inference_mode(False):
            for name, values, default in (("mean", facts.mean, 0.0), ("std", facts.std, 1.0)):
                numbers = torch.tensor(per_channel(values, self.channels, default, name), device=self.device)
                self.register_buffer(name, numbers.reshape(1, -1, 1, 1), persistent=False)
        self.resize = own_resize(facts.resize, self.size, self.mean)
        named: Sequence[Any] = layer if isinstance(layer, list | tuple) else [layer]
        self.fused = [find_layer(self.module, one) for one in named if one is not None]

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
        """Return a classifier for a plain function, for methods that need neither gradients nor layers.

        Args:
            function: callable from pixels (N, C, H, W) in [0, 1] to probabilities (N, K), such as an ONNX session.
            labels: names of the K classes.
            size: input size (H, W), or the side of a square; None accepts images of any size.
            output: "softmax" for probabilities that sum to 1, "sigmoid" for independent classes, "binary" for one
                probability per image, "regression" for plain values.
            gives: "logits" if the function returns logits instead of probabilities.
            takes: "numpy" or "torch", the kind of float32 array the function takes.
            channels: number of image channels.
            mean: colour of removed pixels for methods that fill with "mean".
            name: name for reports.

        Raises:
            BadInput: `function` is not a plain function, or another argument is invalid.
        """
        check_output(output)
        box = BlackBox(function, output, gives, takes, mean)
        return cls(box, mean, None, size, labels, output=output, channels=channels, name=name or box.name)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, K) of pixels (N, C, H, W).

        Raises:
            BadInput: pixels are not (N, C, H, W), not finite, or far outside [0, 1] for a classifier that normalises.
        """
        check_images(pixels, self.channels)
        check_range(pixels, bounded=self.bounded)
        return self.logits(self.normalize(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return `(pixels - mean) / std`, the images in the network's coordinates."""
        return (pixels - self.mean.to(pixels)) / self.std.to(pixels)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (N, K), at least float32, of inputs (N, C, H, W) in the network's coordinates."""
        seen = self.outline(inputs.shape[-2:])
        fitted = self._fit(inputs)
        own = inputs.clone() if fitted is inputs else fitted  # a network may write into its input
        states = draws(inputs.device)
        logits = run(self.module, own, seen, self.output, self._select)
        if not seen.random and any(not torch.equal(*pair) for pair in zip(states, draws(inputs.device), strict=True)):
            self._outlines.note_random()
            warn_of_randomness(self.name)
        return logits

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return probabilities (N, K) of pixels (N, C, H, W); for a regression, the logits."""
        return self.to_probabilities(self(pixels))

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities (N, K) of logits (N, K): their softmax, or the sigmoid of each class.

        The values of a regression are returned unchanged; methods that need probabilities refuse such a classifier.
        """
        return to_probabilities(logits, self.output)

    def _fit(self, inputs: Tensor) -> Tensor:
        """Convert inputs to the network's memory format and, unless autocast is on, to its dtype."""
        if not torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.to(self.dtype)
        return inputs.contiguous(memory_format=self._memory_format)

    @property
    def module(self) -> nn.Module:
        """The network without DataParallel, DistributedDataParallel or torch.compile wrappers."""
        return unwrapped(self.network)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next((tensor.device for tensor in tensors(self.network)), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the network."""
        return next((t.dtype for t in tensors(self.network) if t.is_floating_point()), torch.float32)

    @property
    def output(self) -> Output:
        """Meaning of the logits."""
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
            BadInput: no layer lies on all paths from the image to the logits; the message lists the layers.
        """
        return str(self.resolve_layer(None))

    def layers(self) -> dict[str, tuple[int, int, int]]:
        """Return the shapes (C, h, w) of all layers by name: modules in execution order, then the default."""
        default, shapes = self.outline().default, dict(self.outline().layers)
        return shapes if default is None else shapes | {str(default): shapes[default.name]}

    def resolve_layer(self, layer: str | nn.Module | None) -> Layer:
        """Return the layer for a name, a module or None, the classifier's target layer; `conv2 + relu` is a name.

        Raises:
            NoSuchLayer: the network has no layer of that name.
            BadInput: the module is not part of the network, or there is no default layer.
        """
        if isinstance(self.module, BlackBox | Scripted):
            raise BadInput(self.module.refusal("layers"))
        own = self.fused[-1] if self.fused else None
        requested = own if layer is None else find_layer(self.module, layer)
        return self.outline().layer(requested, self.name)

    def outline(self, size: Sequence[int] | None = None) -> Outline:
        """Return the network's layers, default layer and outputs as seen in one forward of a noise image.

        The default layer depends on the size: it is the last one with several positions. Each size is looked at once.

        Args:
            size: (H, W) of the pictures; None is that of the run, the classifier's own, or 64 x 64.

        Raises:
            BadInput: the network cannot run on such an image, or `output` or `labels` do not match it.
        """
        return self._outlines.of(size, self.size, self._look)

    def _look(self, size: tuple[int, int]) -> Outline:
        with self.borrowed(), torch.no_grad():
            if self._outlines:
                return self._outlines.known(look(self.module, self._noise(size), self.name, self._select))
            noise, wanted, before = self._noise(size), self._wanted_format, facts(self.module)
            seen, self._memory_format = inspect(self.module, noise, self.name, wanted, self._select)
            warn_of_mixing(self.module, self.name, seen)
            self._outlines.built(self.module, before)
        self._output = meaning(self._output, seen, self._labels, self.name)
        if seen.random:
            warn_of_randomness(self.name)
        return seen

    def note_mixing(self) -> None:
        """Take the network as one that mixes the images of a batch, with a warning."""
        self._outlines.note_mixing()
        warn_of_mixing(self.module, self.name, self.outline())

    def looking_at(self, size: Sequence[int]) -> AbstractContextManager[None]:
        """Take the default layer of pictures of `size` = (H, W) in a block inside `borrowed()`."""
        return self._outlines.looking_at((size[0], size[1]))

    def _noise(self, size: Sequence[int]) -> Tensor:
        """Return one noise image (1, C, H, W) in the network's coordinates."""
        noise = torch.rand(
            1, self.channels, *size, generator=generator(0, "outline"), dtype=torch.float32, device="cpu"
        )
        return self._fit(self.normalize(noise.to(self.device)))

    def activation_bytes(self, size: Sequence[int]) -> int:
        """Return the memory of all activations for one image of `size` = (H, W), in bytes."""
        return self.outline(size).activation_bytes

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the current weights and preprocessing."""
        colours = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        values = {"weights": model_fingerprint(self.module), **colours, "output": self.output}
        selected = {} if self._select.identity is None else {"select": self._select.identity}
        return fingerprint({**values, "channels": self.channels, **selected})

    def check(self, inputs: Inputs) -> Tensor:
        """Return pixels (N, C, H, W) on the classifier's device and in its dtype, at least float32; pictures are read.

        Raises:
            BadInput: pixels are not (N, C, H, W), not finite, far outside [0, 1] for a classifier that normalises, or
                of a size that the network cannot take.
        """
        pixels = inputs.pixels if isinstance(inputs, Pictures) else inputs
        pixels = pixels if isinstance(pixels, Tensor) else self.read(pixels)
        check_images(pixels, self.channels)
        with torch.inference_mode(False):
            pixels = pixels.detach().to(self.device, torch.promote_types(self.dtype, torch.float32))
            pixels = pixels.clone() if pixels.is_inference() else pixels
        if pixels.numel() == 0:
            return pixels
        check_range(pixels, bounded=self.bounded)
        if self._outlines.forget_changed(self.module):
            self._output = self._asked
        if not self._told and 0 <= pixels.min() <= pixels.max() <= 1:
            self._tell()
        self.outline(pixels.shape[2:])
        return pixels

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Yield the network in eval mode without weight gradients, and restore it exactly afterwards.

        A nested `borrowed()` changes nothing; another thread waits until the network is restored.
        """
        with borrow(self.network, self.device):
            yield self.module

    def probe(self) -> Probe:
        """Return a probe of the unwrapped network, to be used inside `borrowed()`."""
        return Probe(self.module, in_mode=self._outlines.in_mode)


def check_classifier(classifier: object) -> None:
    """Check that a value is a `Classifier`.

    Raises:
        BadInput: it is not, for example the bare network; the message says how to make one.
    """
    if not isinstance(classifier, Classifier):
        remedy = "wrap it: xaikit.Classifier(model)" if isinstance(classifier, nn.Module) else "use xaikit.load"
        raise BadInput(f"classifier: expected a Classifier, got {type(classifier).__name__}; {remedy}")
