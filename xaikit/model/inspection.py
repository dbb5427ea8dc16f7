"""Inspection: forwards of one noise image that show a network's structure before any explanation.

Outlines          keep the outline of each size of pictures
look              return the network's outline, or raise a clear error if it cannot run on such an image
same_logits_in    check whether the network gives the same logits in another memory format
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, XaikitError, XaikitWarning
from xaikit.foundation.memory import out_of_memory
from xaikit.model.function import BlackBox
from xaikit.model.layers import Outline, outline
from xaikit.model.outputs import unwrap_output

_NATIVE_PROBE = (64, 64)
_MOST_SIZES = 64  # outlines kept
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
_ROUNDING_STEPS = 256  # largest change by another memory format, in rounding steps of the largest logit
_MOST_ROUNDING = 0.02  # upper limit of that change as a share of the largest logit, for half precision


class Outlines:
    """The outlines of one network by the size (H, W) of its pictures; true once a picture was looked at.

    The default layer is the last one with several positions, which depends on the size.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], Outline] = {}
        self._at: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return bool(self._seen)

    def of(
        self, size: Sequence[int] | None, own: tuple[int, int] | None, look: Callable[[tuple[int, int]], Outline]
    ) -> Outline:
        """Return the outline for pictures of `size`.

        Args:
            size: (H, W); None is the size looked at, `own`, or 64 x 64.
            own: the classifier's own size, or None.
            look: callable that returns a new outline.

        Raises:
            BadInput: the network cannot run on such an image.
        """
        height, width = size or self._at or own or _NATIVE_PROBE
        if (height, width) not in self._seen:
            try:
                seen = look((height, width))
            except BadInput:
                if size or self._at or not self._seen:
                    raise
                return next(iter(self._seen.values()))  # of a network of fixed size, which a picture has shown
            if len(self._seen) >= _MOST_SIZES:
                del self._seen[next(iter(self._seen))]
            self._seen[height, width] = seen
        return self._seen[height, width]

    @contextmanager
    def looking_at(self, size: tuple[int, int]) -> Iterator[None]:
        """Take `size` as that of the pictures at hand within this block."""
        before, self._at = self._at, size
        try:
            yield
        finally:
            self._at = before


def inspect(
    network: nn.Module, inputs: Tensor, name: str, wanted: torch.memory_format | None
) -> tuple[Outline, torch.memory_format]:
    """Return the outline of a borrowed network and the memory format to run it in.

    Args:
        network: the network in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        name: name of the network, for messages.
        wanted: preferred memory format of the inputs, or None.

    Raises:
        BadInput: the network cannot run on such an image.
    """
    seen = look(network, inputs, name)
    if wanted is not None and _same_logits_in(wanted, network, inputs, seen):
        return seen, wanted
    return seen, torch.contiguous_format


def look(network: nn.Module, inputs: Tensor, name: str) -> Outline:
    """Return the outline of a borrowed network.

    Args:
        network: the network in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        name: name of the network, for the message.

    Raises:
        BadInput: the network cannot run on such an image.
    """
    try:
        seen = outline(network, inputs, unwrap_output)
        return replace(seen, ends_in="logits") if isinstance(network, BlackBox) else seen
    except _FAILURES as error:
        if isinstance(error, XaikitError) or out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise BadInput(
            f"network: expected {name} to run on an image {tuple(inputs.shape)}, got {type(error).__name__}: {reason}; "
            "set size=(H, W) and channels="
        ) from error


def _same_logits_in(memory_format: torch.memory_format, network: nn.Module, inputs: Tensor, seen: Outline) -> bool:
    """Return whether a network runs in a memory format and gives the same logits in it, up to rounding."""
    try:
        outputs = unwrap_output(network(inputs.clone(memory_format=memory_format)), seen.classes)
    except _FAILURES as error:
        if out_of_memory(error):
            raise
        return False
    rounding = min(_ROUNDING_STEPS * torch.finfo(outputs.dtype).eps, _MOST_ROUNDING)
    return bool((outputs - seen.outputs).abs().max() <= rounding * seen.outputs.abs().max())


def warn_of_batch_statistics(network: nn.Module) -> None:
    """Warn of BatchNorm without running statistics, which makes an image's logits depend on its batch."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            warnings.warn(
                f"network: expected BatchNorm with running statistics, got none in {name!r}: an image's logits depend "
                "on its batch; explain with chunk_size=1",
                XaikitWarning,
                stacklevel=3,
            )
            return
