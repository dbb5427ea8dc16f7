"""Second derivations: the same attribution by another road, on networks where another road exists. A file a family."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

Replica = Callable[[], None]
REPLICAS: dict[str, list[Replica]] = {}


def replicates(name: str) -> Callable[[Replica], Replica]:
    """Register a test body as the second derivation of the method `name`."""

    def keep(replica: Replica) -> Replica:
        REPLICAS.setdefault(name, []).append(replica)
        return replica

    return keep


def ordinary(classifier: Classifier, pixels: Tensor, index: Tensor, layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Return a layer's activations and gradients by an ordinary forward and autograd."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    logits = classifier.network.eval()(classifier.normalize(pixels))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, index[:, None]).sum(), seen[-1])
    return seen[-1].detach(), gradient


def close(found: Attribution | Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Assert equality to `tolerance` of the expected range."""
    values = found.values if isinstance(found, Attribution) else found
    values, expected = values.detach(), expected.detach()
    assert values.shape == expected.shape
    span = float(expected.abs().max())
    assert span > 0, "the expected values are all zero: the test proves nothing"
    assert float((values - expected).abs().max()) <= tolerance * span
