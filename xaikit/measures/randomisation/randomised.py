"""Randomised networks: a copy of the classifier whose parameters are randomised, from the logits down.

    copy the classifier -> randomise its last module -> ... -> randomise all; yield the method on the copy at each step

The classifier itself is not changed. Modules are randomised in reverse order of execution: first the module that
returns the logits, then the others in groups of about equal size. Each parameter is drawn from N(mean, std) of its own
trained entries, with a random stream keyed by seed and name. Activations thus keep their scale, and the last step is
the same network for any grouping. Buffers are kept: only the affine parameters of a BatchNorm are drawn, because other
running statistics would change the scale of all later layers. A parameter whose entries are all equal does not change.

Source: Adebayo et al., NeurIPS 2018, arXiv:1810.03292.
Departs from source: drawn with each parameter's own mean and standard deviation instead of its initial distribution.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.identity import generator
from xaikit.measures.base import Explainer
from xaikit.model.classifier import Classifier


def randomised(method: Explainer, image: Tensor, stages: int, seed: int) -> Iterator[Explainer]:
    """Yield the method on a copy of its classifier, with one more group of modules randomised at each step.

    Args:
        method: method bound to the classifier that is copied.
        image: (1, C, H, W) in [0, 1], run once to find the order of the modules.
        stages: number of groups.
        seed: seed of the drawn parameters.
    """
    classifier = copy.deepcopy(method.classifier)
    for group in groups(classifier, image, stages):
        for name in group:
            _draw(classifier.module.get_submodule(name), name, seed)
        yield method.on(classifier)


def groups(classifier: Classifier, image: Tensor, stages: int) -> list[list[str]]:
    """Return the names of the executed modules with own parameters, from the logits down, in at most `stages` groups.

    Args:
        classifier: the classifier with the modules.
        image: (1, C, H, W) in [0, 1].
        stages: number of groups; with two or more, the first group is the last module alone.
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
    """Randomise a module's own parameters in place."""
    with torch.no_grad():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            stream = generator(seed, "randomised", name, parameter_name)
            normal = torch.randn(parameter.shape, generator=stream, device="cpu").to(parameter)
            parameter.copy_(parameter.mean() + parameter.std(correction=0) * normal)
