"""The guest: how a method of another package runs on our classifier and leaves nothing behind.

    their class -> a `Method` with their parameters as fields -> their values on a copy of the classifier, as they are

Other packages switch modes, write `.grad`, leave hooks and replace modules. So they never see the user's network: each
portion of images runs on a deep copy, which is thrown away afterwards, also when theirs raises. What theirs raises
becomes a `BadInput` that says why.

Theirs read what a module returns: of a functional ReLU that follows it (DenseNet) they know nothing, and of a module
that runs several times they cannot tell the calls apart, which is refused.

Shapes: inputs (n, C, H, W) in the network's own coordinates; logits (n, K); values as theirs, one map an image.
"""

from __future__ import annotations

import copy
import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xaikit.extend import LayerMethod, Method, Values
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.memory import out_of_memory
from xaikit.model.hooks import Layer
from xaikit.model.torch_functions import PLUS, PRODUCTS, RELUS
from xaikit.run.batch import Batch

_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
_MIXES = PLUS | PRODUCTS
OUR_WORDS = {"method": "quadrature"}
"""Our field by the name of their parameter, where `xaikit.attribute` has taken that name."""


class Model(nn.Module):
    """A copy of a batch's classifier, as other packages expect a model: from inputs (n, C, H, W) to logits (n, K).

    Args:
        batch: of the classifier that is copied.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(batch.classifier)
        self.context = batch.context

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits; a forward with a graph is followed by one backward, and counted so."""
        half = self.context.precision == "bfloat16"
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=half):
            logits = self.classifier.logits(inputs)
        self.context.counters.forwards += len(inputs)
        self.context.counters.backwards += len(inputs) if logits.requires_grad else 0
        return logits

    def part(self, name: str) -> nn.Module:
        """Return the copy of the network's module of that name."""
        return self.classifier.module.get_submodule(name)

    def mixes(self, image: Tensor) -> int:
        """Return how many sums and products of activations one image (1, C, H, W) goes through."""
        return sum(function in _MIXES and count == 2 for function, count in self._run_through(image)[1])

    def unseen_relus(self, image: Tensor) -> int:
        """Return how many ReLUs are functions and no modules, so that theirs do not see them."""
        modules, functions = self._run_through(image)
        called = sum(function in RELUS for function, _ in functions)
        return called - sum(isinstance(module, nn.ReLU) for module in modules)

    def _run_through(self, image: Tensor) -> tuple[list[nn.Module], list[tuple[Callable[..., Any], int]]]:
        """Return the modules that run, and the functions with how many activations each takes."""
        modules: list[nn.Module] = []
        functions: list[tuple[Callable[..., Any], int]] = []

        def on_module(name: str, module: nn.Module, output: Any) -> None:
            modules.append(module)

        def on_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
            functions.append((function, sum(isinstance(one, Tensor) and one.ndim > 1 for one in args[:2])))

        with torch.no_grad(), self.classifier.probe() as probe:
            probe.observe(on_module, on_function)
            self(image)
        return modules, functions

    def let_go(self) -> None:
        """Drop the copy and the hooks that tie it to whoever registered them, so that its memory is free at once."""
        for module in self.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
                hooks.clear()
        del self.classifier


@dataclass(frozen=True)
class Guest(Method):
    """A method of another package.

    What theirs draws comes from global streams. Where it draws, images are taken one by one and the streams begin anew
    for each, so that no image depends on its neighbours.
    """

    theirs: ClassVar[Any]
    draws: ClassVar[bool] = False
    made_with: ClassVar[tuple[str, ...]] = ()
    called_with: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return what theirs gives on `model` for classes (n,)."""

    def compute(self, batch: Batch) -> Values:
        """Run theirs on a copy of the classifier.

        Raises:
            BadInput: a target that is no class, or whatever makes theirs fail.
        """
        batch.target.require_class(self.name)
        classes = batch.target.index
        with self._copy(batch) as model:
            if not self.draws:
                _begin_streams(batch.context.seed)
                return self.explain(model, batch, classes)
            found = []
            for image, index in enumerate(classes.tolist()):
                _begin_streams(batch.context.seed)
                alone = Batch(batch.classifier, batch.pixels[image : image + 1], index, batch.context)
                found.append(self.explain(model, alone, classes[image : image + 1]))
        gaps = [one.completeness for one in found if one.completeness is not None]
        return Values(
            torch.cat([one.values for one in found]),
            completeness=torch.cat(gaps) if gaps else None,
            flags=[flags for one in found for flags in one.flags],
        )

    @contextmanager
    def _copy(self, batch: Batch) -> Iterator[Model]:
        model = None
        try:
            model = Model(batch)
            yield model
        except _FAILURES as error:
            if isinstance(error, XaikitError) or out_of_memory(error):
                raise
            reason = " ".join(str(error).split()) or "no reason"
            raise BadInput(
                f"{self.name}: expected it to run on {self.classifier.name}, got {type(error).__name__} ({reason}); "
                "use another method or layer"
            ) from error
        finally:
            if model is not None:
                model.let_go()

    def given(self, names: Iterable[str], **chosen: Any) -> dict[str, Any]:
        """Return the parameters of these names, with those that were chosen here in place of None."""
        values = {name: getattr(self, OUR_WORDS.get(name, name)) for name in names}
        return values | {name: value for name, value in chosen.items() if name in values and values[name] is None}


@dataclass(frozen=True)
class GuestLayer(Guest, LayerMethod):
    """A method of another package that reads one layer."""

    @cached_property
    def place(self) -> Layer:
        """The layer that is read, without the functional ReLU that may follow it.

        Raises:
            BadInput: the module runs several times.
        """
        place = self.classifier.resolve_layer(self.layer)
        if place.call is not None:
            raise BadInput(
                f"{self.name}: expected a layer that runs once, got {place.name!r}, which runs several times; "
                "choose the block that holds it"
            )
        return Layer(place.name)


def _begin_streams(seed: int) -> None:
    """Start the global streams, which theirs draw from; the borrowed network's owner gets them back as they were."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - theirs draw from it
    random.seed(seed)
