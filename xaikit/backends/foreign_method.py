"""Guests: methods of other packages, run on a copy of the classifier.

    class of a package -> a `Method` with its parameters as fields -> its values on a copy of the classifier, unchanged

Other packages switch modes, write `.grad`, leave hooks and replace modules, so they never see the user's network: each
portion of images runs on a deep copy, which is discarded afterwards, also on an exception. Exceptions of the package
become a `BadInput` with the reason.

Other packages read a layer as the output of a module. They do not see a functional ReLU that follows it (DenseNet), and
cannot tell apart the calls of a module that runs several times, which is refused.

Shapes: inputs (n, C, H, W), normalised; logits (n, K); values as the package returns them, one map per image.
"""

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
"""Field of the generated class for each parameter whose name `xaikit.attribute` already uses."""


class Model(nn.Module):
    """A copy of a batch's classifier as a module from inputs (n, C, H, W) to logits (n, K).

    Args:
        batch: batch whose classifier is copied.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(batch.classifier)
        self.context = batch.context

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits; a forward with a graph is also counted as one backward."""
        half = self.context.precision == "bfloat16"
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=half):
            logits = self.classifier.logits(inputs)
        self.context.counters.forwards += len(inputs)
        self.context.counters.backwards += len(inputs) if logits.requires_grad else 0
        return logits

    def part(self, name: str) -> nn.Module:
        """Return the copied module called `name`."""
        return self.classifier.module.get_submodule(name)

    def mixes(self, image: Tensor) -> int:
        """Return the number of sums and products of activations in a forward of one image (1, C, H, W)."""
        return sum(function in _MIXES and count == 2 for function, count in self._run_through(image)[1])

    def unseen_relus(self, image: Tensor) -> int:
        """Return the number of functional ReLUs, which other packages do not see."""
        modules, functions = self._run_through(image)
        called = sum(function in RELUS for function, _ in functions)
        return called - sum(isinstance(module, nn.ReLU) for module in modules)

    def _run_through(self, image: Tensor) -> tuple[list[nn.Module], list[tuple[Callable[..., Any], int]]]:
        """Return the modules that run, and the functions with the number of activations each takes."""
        modules: list[nn.Module] = []
        functions: list[tuple[Callable[..., Any], int]] = []

        def on_module(name: str, module: nn.Module, output: Any) -> None:
            modules.append(module)

        def on_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
            functions.append((function, sum(isinstance(value, Tensor) and value.ndim > 1 for value in args[:2])))

        with torch.no_grad(), self.classifier.probe() as probe:
            probe.observe(on_module, on_function)
            self(image)
        return modules, functions

    def let_go(self) -> None:
        """Remove the copy and its hooks, which form reference cycles, so that the memory is freed at once."""
        for module in self.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
                hooks.clear()
        del self.classifier


@dataclass(frozen=True)
class Guest(Method):
    """A method of another package.

    Other packages draw from global random generators. Methods that draw explain images one by one, and the generators
    are seeded for each, so that no image depends on the others in its batch.
    """

    theirs: ClassVar[Any]
    draws: ClassVar[bool] = False
    made_with: ClassVar[tuple[str, ...]] = ()
    called_with: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return the package's values on `model` for classes (n,)."""

    def compute(self, batch: Batch) -> Values:
        """Return the package's values on a copy of the classifier.

        Raises:
            BadInput: the target is not a class, or the package's method fails.
        """
        batch.target.require_class(self.name)
        classes = batch.target.index
        with self._copy(batch) as model:
            if not self.draws:
                _seed_generators(batch.context.seed)
                return self.explain(model, batch, classes)
            results = []
            for row, index in enumerate(classes.tolist()):
                _seed_generators(batch.context.seed)
                single = Batch(batch.classifier, batch.pixels[row : row + 1], index, batch.context)
                results.append(self.explain(model, single, classes[row : row + 1]))
        gaps = [result.completeness for result in results if result.completeness is not None]
        return Values(
            torch.cat([result.values for result in results]),
            completeness=torch.cat(gaps) if gaps else None,
            flags=[flags for result in results for flags in result.flags],
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
                f"{self.name}: expected a run on {self.classifier.name} without errors, got {type(error).__name__} "
                f"({reason}); use another method or layer"
            ) from error
        finally:
            if model is not None:
                model.let_go()

    def given(self, names: Iterable[str], **chosen: Any) -> dict[str, Any]:
        """Return the parameters called `names`, with the values in `chosen` in place of None."""
        values = {name: getattr(self, OUR_WORDS.get(name, name)) for name in names}
        return values | {name: value for name, value in chosen.items() if name in values and values[name] is None}


@dataclass(frozen=True)
class GuestLayer(Guest, LayerMethod):
    """A method of another package that reads one layer."""

    @cached_property
    def place(self) -> Layer:
        """The layer that is read, without a functional ReLU that may follow it.

        Raises:
            BadInput: the module runs several times.
        """
        layer = self.classifier.resolve_layer(self.layer)
        if layer.call is not None:
            raise BadInput(
                f"{self.name}: expected a layer that runs once, got {layer.name!r}, which runs several times; "
                "use the block that contains it"
            )
        return Layer(layer.name, grid=layer.grid)

    def refuse_grid(self, reads_maps: bool) -> None:
        """Refuse tokens and channels last for a package's method that takes the layer as (N, C, h, w).

        Raises:
            BadInput: the method does, and the layer is not.
        """
        if reads_maps and self.place.grid is not None:
            raise BadInput(
                f"{self.name}: expected a layer with outputs (N, C, h, w), got {self.place.grid.shape} for each image; "
                "use xaikit's own method of this name"
            )


def _seed_generators(seed: int) -> None:
    """Seed the global generators that other packages draw from; borrowing the network restores their states."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - other packages draw from it
    random.seed(seed)
