"""The black box: a function from pixels to probabilities, wrapped as a network without gradients and layers.

    inputs -> pixels (N, C, H, W), NumPy float32 or torch -> function -> probabilities (N, K) -> their logits

    softmax     z = log p                    so that softmax(z) = p
    sigmoid     z = log p - log(1 - p)       one output is "binary"
    regression  z = the function's output

The function's output is checked on every call: a wrong shape, NaN, or logits in place of probabilities would otherwise
give a plausible but wrong map. Probabilities of 0 count as the smallest positive number.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.memory import out_of_memory
from xaikit.model.fingerprint import function_identity
from xaikit.model.outputs import Output

Gives = Literal["probabilities", "logits"]
Takes = Literal["numpy", "torch"]

_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, OSError, ArithmeticError)
_SUM_TOLERANCE = 0.01


class BlackBox(nn.Module):
    """A plain function wrapped as a network.

    Args:
        function: callable from pixels (N, C, H, W) in [0, 1] to (N, K), both NumPy or torch.
        output: meaning of the logits.
        gives: whether the function returns probabilities or logits.
        takes: whether the function takes NumPy arrays or torch tensors.
        mean: the mean that the classifier subtracts from the pixels, one number or one per channel.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        output: Output,
        gives: Gives = "probabilities",
        takes: Takes = "numpy",
        mean: Sequence[float] | float = 0.0,
    ) -> None:
        super().__init__()
        if not callable(function):
            raise BadInput(f"function: expected a callable, got {type(function).__name__}; give pixels -> (N, K)")
        if isinstance(function, nn.Module):
            raise BadInput("function: expected a plain function, got a torch module; use xaikit.Classifier(module)")
        for name, value, known in (("gives", gives, ("probabilities", "logits")), ("takes", takes, ("numpy", "torch"))):
            if value not in known:
                raise BadInput(f"{name}: expected {' or '.join(known)}, got {value!r}")
        self.function = function
        self.output: Output = output
        self.gives = gives
        self.takes = takes
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self._opaque = secrets.token_hex(8)
        self.name = getattr(function, "__qualname__", type(function).__qualname__)

    mean: Tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> BlackBox:
        """Return a copy that calls the same function, because sessions and connections cannot be copied."""
        copied = BlackBox(self.function, self.output, self.gives, self.takes, self.mean.flatten().tolist())
        copied._opaque = self._opaque
        return copied

    def get_extra_state(self) -> dict[str, str]:
        """Return what identifies the function: its code and the values that it uses (fingerprint.py).

        A session or another object has no contents that can be compared, and counts as another one in each wrapper.
        """
        return {
            "function": f"{getattr(self.function, '__module__', '')}.{self.name}",
            "content": function_identity(self.function, self._opaque),
            "gives": self.gives,
        }

    def set_extra_state(self, state: Any) -> None:
        """Do nothing: a function cannot be restored from its name."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, K) of inputs (N, C, H, W) in the classifier's coordinates.

        Raises:
            BadInput: a gradient is required, the function fails, or its output is invalid.
        """
        if inputs.requires_grad and torch.is_grad_enabled():
            raise BadInput(self.refusal("gradients"))
        pixels = (inputs + self.mean.to(inputs)).detach().float().contiguous()
        try:
            output = self.function(pixels.cpu().numpy() if self.takes == "numpy" else pixels)
        except _FAILURES as error:
            if isinstance(error, XaikitError) or out_of_memory(error):
                raise
            shape, reason = tuple(pixels.shape), " ".join(str(error).split()) or "no reason"
            raise BadInput(
                f"function: expected {self.name} to take pixels {shape}, got {type(error).__name__}: {reason}"
            ) from error
        return self._logits(self._checked(output, len(pixels))).to(inputs.device)

    def refusal(self, what: str) -> str:
        """Return the message for a method that needs `what`."""
        return (
            f"classifier: expected a network with {what}, got the function {self.name}; use a perturbation method such "
            "as rise, lime or kernel-shap"
        )

    def _checked(self, output: Any, count: int) -> Tensor:
        """Return the function's output as (N, K) float32 or float64."""
        try:
            values = output.detach() if isinstance(output, Tensor) else torch.from_numpy(_floats(output))
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"function: expected an array or a tensor ({count}, K), got {type(output).__name__}; return numbers"
            ) from error
        values = values[:, None] if values.ndim == 1 and self.output in ("binary", "regression") else values
        if values.ndim != 2 or len(values) != count:
            got = tuple(values.shape)
            raise BadInput(f"function: expected ({count}, K) for {count} images, got {got}; return one row per image")
        if not values.is_floating_point() or not bool(values.isfinite().all()):
            what = str(values.dtype) if not values.is_floating_point() else "NaN or infinity"
            raise BadInput(f"function: expected finite {self.gives}, got {what}; check what {self.name} returns")
        return values if values.dtype == torch.float64 else values.float()

    def _logits(self, values: Tensor) -> Tensor:
        if self.gives == "logits" or self.output == "regression":
            return values
        low, high = float(values.min()), float(values.max())
        if low < -1e-6 or high > 1 + _SUM_TOLERANCE:
            raise BadInput(
                f"function: expected probabilities in [0, 1], got {low:.3g} to {high:.3g}; use gives='logits' if they "
                "are logits"
            )
        if self.output == "softmax":
            total = values.sum(1)
            worst = float(total[(total - 1).abs().argmax()])
            if abs(worst - 1) > _SUM_TOLERANCE:
                raise BadInput(
                    f"function: expected probabilities that sum to 1, got {worst:.3g}; use output='sigmoid' if the "
                    "classes are independent, or gives='logits'"
                )
            return values.clamp_min(torch.finfo(values.dtype).tiny).log()
        return torch.logit(values.clamp(0, 1), eps=torch.finfo(values.dtype).eps)


class Scripted(nn.Sequential):
    """A TorchScript network: it runs and has a gradient, but takes no hooks, and no function calls show inside it."""

    def refusal(self, what: str) -> str:
        """Return the message for a method that needs `what`."""
        return (
            f"classifier: expected a network with {what}, got TorchScript, which takes no hooks; give the network as "
            "it was before torch.jit, or use a method without layers such as saliency or rise; "
            "Classifier.from_function explains any function of pixels"
        )


def _floats(values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype in (np.float32, np.float16) else np.float64)
