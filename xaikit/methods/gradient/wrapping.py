"""Methods that apply another method, their base: on noisy images, in noisy networks, or to filter its map.

Averages are of the base method's values before the reduction of the channels: of `saliency`, of the signed gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from xaikit.methods.base import METHODS, InputMethod, LayerMethod, Method, place_flags
from xaikit.model.classifier import Classifier
from xaikit.run.batch import Batch


@dataclass(frozen=True)
class WrappingMethod(InputMethod):
    """Base class of methods that apply another method.

    Args:
        base: name of the method that is applied; of `saliency`, averages take the signed gradient.
        base_params: parameters of the base method, including `layer` if it reads a layer.
    """

    base: str = "saliency"
    base_params: Mapping[str, Any] = field(default_factory=dict)

    family = "gradient"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Check that the base method exists and that its parameters fit it."""
        _ = self.inner

    @cached_property
    def inner(self) -> Method:
        """The method that is applied.

        Raises:
            UnknownName: there is no such method.
            BadInput: `base_params` do not fit the method.
        """
        return METHODS.get(self.base).build(self.classifier, **self.base_params)

    def on(self, classifier: Classifier) -> Self:
        """Return the same method bound to another classifier, with the base method at the same layer."""
        other = super().on(classifier)
        vars(other)["inner"] = self.inner.on(classifier)
        return other

    def joined_flags(self, batch: Batch, *results: list[set[str]]) -> list[set[str]]:
        """Return for each image the flags of the base method's layers and of its results, which may be empty."""
        flags = place_flags(self.inner, batch)
        for result in results:
            for names, more in zip(flags, result, strict=False):
                names |= more
        return flags

    def decided(self) -> dict[str, Any]:
        """Return the layer that the base method reads, as the parameter `base_layer`, if it reads one."""
        if isinstance(self.inner, WrappingMethod):
            return self.inner.decided()
        return {"base_layer": str(self.inner.place)} if isinstance(self.inner, LayerMethod) else {}
