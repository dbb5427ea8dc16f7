"""Randomised networks: a copy of the classifier whose parameters are drawn anew, from the logits down.

    method on the classifier -> a copy -> its last module drawn -> ... -> all drawn, the method bound to it at each step

The classifier itself is never touched. Modules go in reverse order of execution: first the one that gives the logits,
then the others in groups of about equal number. Each parameter becomes N(mean, deviation) of its own trained entries,
from a stream of its own (seed, name), so that activations keep their scale and the last step is the same network
whatever the groups. Buffers stay: of a BatchNorm only the affine parameters are drawn, because new running statistics
would change the scale of all that follows. A parameter whose entries are all equal stays too.

Source: Adebayo et al., NeurIPS 2018, arXiv:1810.03292.
Departs from source: drawn with each parameter's own mean and deviation instead of its initial distribution.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.identity import generator
from xaikit.measures.base import Explainer
from xaikit.model.classifier import Classifier


def randomised(method: Explainer, image: Tensor, stages: int, seed: int) -> Iterator[Explainer]:
    """Yield the method on a copy of its classifier, of which one group of modules more is random each time.

    Args:
        method: bound to the classifier that is copied.
        image: (1, C, H, W), run once to see the order of the modules.
        stages: number of groups.
        seed: of the drawn parameters.
    """
    classifier = copy.deepcopy(method.classifier)
    for group in groups(classifier, image, stages):
        for name in group:
            _draw(classifier.module.get_submodule(name), name, seed)
        yield method.on(classifier)


def groups(classifier: Classifier, image: Tensor, stages: int) -> list[list[str]]:
    """Return the modules with parameters of their own that run, from the logits down, in at most `stages` groups.

    Args:
        classifier: whose modules they are.
        image: (1, C, H, W) in [0, 1].
        stages: the first group is the last module alone, unless there is only one.
    """
    finished: list[str] = []

    def on_module(name: str, module: nn.Module, output: Any) -> None:
        if next(module.parameters(recurse=False), None) is not None:
            finished.append(name)

    def on_function(function: Any, args: Any, kwargs: Any, output: Any) -> None:
        pass

    with classifier.borrowed(), torch.no_grad(), classifier.probe() as probe:
        probe.observe(on_module, on_function)
        classifier.logits(classifier.normalize(classifier.check(image)))
    names = list(dict.fromkeys(reversed(finished)))
    if stages == 1:
        return [names]
    first, rest = names[:1], names[1:]
    count = min(stages - 1, len(rest))
    return [first, *(rest[len(rest) * step // count : len(rest) * (step + 1) // count] for step in range(count))]


def _draw(module: nn.Module, name: str, seed: int) -> None:
    """Replace a module's own parameters in place."""
    with torch.no_grad():
        for part, parameter in module.named_parameters(recurse=False):
            stream = generator(seed, "randomised", name, part)
            normal = torch.randn(parameter.shape, generator=stream, device="cpu").to(parameter)
            parameter.copy_(parameter.mean() + parameter.std(correction=0) * normal)
