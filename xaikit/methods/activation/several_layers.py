"""Methods that read several layers: a parameter for the shallower ones, also given as layer=["layer2", "layer4"]."""

from dataclasses import dataclass
from typing import Any

import torch

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import LayerMethod
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer


@dataclass(frozen=True)
class SeveralLayers(LayerMethod):
    """A method that reads one layer or several.

    Args:
        shallower: names of further layers before `layer`, a comma-separated string or a sequence.
    """

    shallower: str | tuple[str, ...] = ()

    @classmethod
    def several_layers(cls, classifier: Classifier, layers: list[str | torch.nn.Module]) -> dict[str, Any]:
        """Return the last of the layers, in the order in which they run, as `layer`, the others as `shallower`.

        Raises:
            BadInput: there are none, one is not a layer with a grid, or one is given twice.
        """
        order = list(classifier.layers())
        places = [classifier.resolve_layer(layer) for layer in layers]
        unknown = [str(place) for place in places if place.name not in order]
        if not places or unknown or len(set(places)) < len(places):
            got = unknown[0] if unknown else ", ".join(map(str, places)) or "none"
            raise BadInput(f"layer: expected different layers among classifier.layers(), got {got}")
        *shallower, deepest = map(str, sorted(places, key=lambda place: order.index(place.name)))
        return {"layer": deepest} | ({"shallower": tuple(shallower)} if shallower else {})

    @classmethod
    def own_layers(cls, classifier: Classifier, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters, with the classifier's list of layers where none are given."""
        if len(classifier.fused) < 2 or "layer" in params or "shallower" in params:
            return params
        return params | cls.several_layers(classifier, list(map(str, classifier.fused)))

    @property
    def places(self) -> list[Layer]:
        """The shallower layers, then the method's own."""
        names = self.shallower.split(",") if isinstance(self.shallower, str) else self.shallower
        return [*(self.classifier.resolve_layer(name.strip()) for name in names if name.strip()), self.place]


@dataclass(frozen=True)
class FinerGrids(SeveralLayers):
    """A method that refines the map of its layer by those of finer grids.

    Args:
        shallower: names of the layers before `layer`, a comma-separated string or a sequence; none are chosen by grid.
    """

    @property
    def places(self) -> list[Layer]:
        """The named shallower layers, or one for each finer grid, then the method's own."""
        return super().places if self.shallower else [*self._finer(), self.place]

    def _finer(self) -> list[Layer]:
        """Return for each finer grid before the method's own layer the last of its layers with the fewest parents."""
        seen, names = self.classifier.outline(), list(self.classifier.outline().layers)
        modules = dict(self.classifier.module.named_modules(remove_duplicate=False))
        own = modules[self.place.name]  # which may have another name in the outline
        last = next((index for index, name in enumerate(names) if modules.get(name) is own), 0)
        chosen: dict[tuple[int, int], str] = {}
        for name in names[:last]:
            _, height, width = seen.layers[name]
            finer = height * width > seen.layers[names[last]][1] * seen.layers[names[last]][2]
            if not finer or seen.calls.get(name, 1) > 1 or name in seen.without_grid | seen.apart:
                continue
            if name.count(".") <= chosen.get((height, width), name).count("."):
                chosen[height, width] = name
        return [self.classifier.resolve_layer(name) for name in sorted(chosen.values(), key=names.index)]
