"""The identity of a network: a hash of the contents of its weights and buffers.

    sha256 of sorted (name, dtype, shape, bytes) of the state dict

It is computed from the contents each time, so every write changes it, even `weight.data.mul_(2)`.
"""

import hashlib

from torch import Tensor, nn

from xaikit.foundation.identity import canonical_json, tensor_bytes


def model_fingerprint(network: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify the weights and buffers, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + tensor_bytes(tensor))
        else:
            digest.update(f"{name}|{canonical_json(tensor)}|".encode())
    return digest.hexdigest()[:16]
