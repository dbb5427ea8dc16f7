"""Inspection: forwards of one noise image that show a network's structure before any explanation.

look              return the network's outline, or raise a clear error if it cannot run on such an image
same_logits_in    check whether the network gives the same logits in another memory format
"""

import warnings
from dataclasses import replace

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, XaikitError, XaikitWarning
from xaikit.foundation.memory import out_of_memory
from xaikit.model.function import BlackBox
from xaikit.model.layers import Outline, outline
from xaikit.model.outputs import unwrap_output

_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
_ROUNDING_STEPS = 256  # largest change by another memory format, in rounding steps of the largest logit
_MOST_ROUNDING = 0.02  # upper limit of that change as a share of the largest logit, for half precision


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
