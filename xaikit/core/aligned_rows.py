"""Aligned rows: a linear map gives an image the same bits wherever the image stands in a batch.

    W x + b  =  the first K of  [W 0; 0 0] [x; 0] + [b; 0]        rows of C and K numbers, filled with zeros to 32 bytes

A matrix product may sum a row in another order if it does not begin at a multiple of 16 bytes: MKL does so on CPUs
without AVX-512, where the second row of 5 features is then a rounding away from the first. In filled rows every row
begins alike. The backward pass multiplies rows of K numbers, so these are filled as well.

Shapes: x (..., C), W (K, C), b (K,).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from xaikit.core.linear_maps import LinearMaps, is_plain

__all__ = ["AlignedRows", "aligned"]

_ROW = 32  # bytes; 16 would do, 32 are a vector of AVX2
_START = 64  # bytes, as torch allocates


class AlignedRows(LinearMaps):
    """Runs linear maps on a CPU in filled rows for the time of a `with` block."""

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch's own name
        """Return W x + b (..., K)."""
        outputs, inputs = weight.shape
        more_inputs, more_outputs = (-count % (_ROW // weight.element_size()) for count in (inputs, outputs))
        if not (more_inputs or more_outputs):
            return F.linear(input, weight, bias)
        bias = None if bias is None else F.pad(bias, (0, more_outputs))
        weight = F.pad(weight, (0, more_inputs, 0, more_outputs))
        return F.linear(F.pad(input, (0, more_inputs)), weight, bias)[..., :outputs].contiguous()


def aligned(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy of it if its memory does not begin at a multiple of 64 bytes."""
    return tensor.clone() if is_plain(tensor) and tensor.data_ptr() % _START else tensor
