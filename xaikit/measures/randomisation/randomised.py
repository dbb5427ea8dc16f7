"""Randomised networks: a copy of the classifier whose parameters are randomised, from the logits down.

    copy the classifier -> randomise its last module -> ... -> randomise all; yield the method on the copy at each step

The classifier itself is not changed. Every parameter of the network belongs to the module that holds it, also if only a
function or another module uses it. Modules are randomised in reverse order of their last use in a forward: first the
module next to the logits, then the others in groups of about equal size, at last those whose use is not seen.
Each parameter is drawn from N(mean, std) of its own trained entries, with a random stream keyed by seed and name.
Activations thus keep their scale, and the last step is the same network for any grouping.

What stays: a parameter whose entries are all equal, such as a scale of one number, and all buffers, because other
running statistics of a BatchNorm would change the scale of all later layers. If the logits stay the same although all
parameters are drawn, the weights are kept elsewhere (in buffers, packed, in a function), and the network is refused; so
is one that uses weights that are not registered (model/copies.py).

Source: Adebayo et al., NeurIPS 2018, arXiv:1810.03292.
Departs from source: drawn with each parameter's own mean and standard deviation instead of its initial distribution.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.measures.base import Explainer
from xaikit.model.classifier import Classifier
from xaikit.model.copies import copied, forget


def randomised(method: Explainer, image: Tensor, stages: int, seed: int) -> Iterator[Explainer]:
    """Yield the method on a copy of its classifier, with one more group of modules randomised at each step.

    Args:
        method: method bound to the classifier that is copied.
        image: (1, C, H, W) in [0, 1], run to find the order of the modules and to check the random network.
        stages: number of groups.
        seed: seed of the drawn parameters.

    Raises:
        BadInput: the network has no parameters, other logits do not follow from other parameters, or it uses weights
            that are not registered.
    """
    classifier = copied(method.classifier, image, "randomisation", "leave this measure out")
    trained = _logits(classifier, image)
    steps = groups(classifier, image, stages)
    owned = _owned(classifier.module)
    for number, group in enumerate(steps, start=1):
        for owner in group:
            _draw(owner, owned[owner], seed)
        forget(classifier.module)
        if number == len(steps) and torch.equal(_logits(classifier, image), trained):
            raise BadInput(
                f"randomisation: expected other logits of {classifier.name} with other parameters, got the same; keep "
                "its weights as parameters, or leave this measure out"
            )
        yield method.on(classifier)


def groups(classifier: Classifier, image: Tensor, stages: int) -> list[list[str]]:
    """Return the names of all modules that hold parameters, from the logits down, in at most `stages` groups.

    Args:
        classifier: the classifier with the modules.
        image: (1, C, H, W) in [0, 1].
        stages: number of groups; with two or more, the first group is the last module alone.
    """
    owned = _owned(classifier.module)
    owner_of = {id(parameter): owner for owner, parameters in owned.items() for parameter in parameters.values()}
    used: list[str] = []

    def on_function(function: Any, args: Any, kwargs: Any, output: Any) -> None:
        used.extend(owner_of[id(leaf)] for leaf in tree_leaves((args, kwargs)) if id(leaf) in owner_of)

    with classifier.borrowed(), torch.no_grad(), classifier.probe() as probe:
        probe.observe(None, on_function)
        classifier.logits(classifier.normalize(classifier.check(image)))
    names = list(dict.fromkeys([*reversed(used), *owned]))
    if stages == 1:
        return [names]
    first, rest = names[:1], names[1:]
    count = min(stages - 1, len(rest))
    return [first, *(rest[len(rest) * step // count : len(rest) * (step + 1) // count] for step in range(count))]


def _owned(network: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """Return the parameters by the name of the module that holds them and their own; a shared one only once."""
    owned: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        owner, _, own = name.rpartition(".")
        owned.setdefault(owner, {})[own] = parameter
    return owned


def _logits(classifier: Classifier, image: Tensor) -> Tensor:
    with classifier.borrowed(), torch.no_grad():
        return classifier.logits(classifier.normalize(classifier.check(image)))


def _draw(owner: str, parameters: dict[str, nn.Parameter], seed: int) -> None:
    """Randomise a module's own parameters in place.

    Raises:
        BadInput: a parameter with different entries did not change.
    """
    with torch.no_grad():
        for name, parameter in parameters.items():
            if not (parameter.is_floating_point() or parameter.is_complex()):
                raise BadInput(f"randomisation: expected real weights, got {parameter.dtype} in {owner}.{name}")
            before = parameter.clone()
            stream = generator(seed, "randomised", owner, name)
            normal = torch.randn(parameter.shape, generator=stream, dtype=torch.float32, device="cpu").to(parameter)
            parameter.copy_(parameter.mean() + parameter.std(correction=0) * normal)
            if torch.equal(parameter, before) and bool((before != before.flatten()[0]).any()):
                raise BadInput(f"randomisation: expected {owner}.{name} to change when drawn, got the same values")
