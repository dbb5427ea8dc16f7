"""The tasks of a session, as values that can be compared, and what each one makes.

    LookTask     model, picture                              -> Look
    MapTask      look, target, against, layer, method, seed  -> Attribution, from the cache if it is there
    CurveTask    map, mask, fill                             -> KeepCurve

Two choices that ask for the same thing make equal tasks, so that nothing is computed twice.
"""

from dataclasses import dataclass, replace
from typing import Any

from xaikit.api import keep_curve
from xaikit.app.cache import Cache
from xaikit.app.look import Look
from xaikit.app.stopping import StoppableContext
from xaikit.foundation.identity import fingerprint
from xaikit.measures.removal.curve import KeepCurve
from xaikit.methods.base import METHODS, LayerMethod, Method
from xaikit.model.target import Contrast
from xaikit.run.attribution import Attribution

LEVELS = 20
"""Steps of the threshold."""


@dataclass(frozen=True)
class LookTask:
    """Run a network on a picture."""

    model: str
    picture: str
    method = ""

    @property
    def look(self) -> "LookTask":
        """The task itself: what all tasks on this network and picture need."""
        return self


@dataclass(frozen=True)
class MapTask:
    """Explain a class, or its contrast with another, by one method.

    Args:
        look: network and picture.
        target: index of the class.
        against: index of the class it is compared with, or None.
        layer: the layer, for methods that read one; None is the network's own.
        method: registry name.
        seed: seed of random draws.
    """

    look: LookTask
    target: int
    against: int | None
    layer: str | None
    method: str
    seed: int

    @property
    def explained(self) -> Any:
        """The target as `attribute` takes it."""
        return self.target if self.against is None else Contrast(self.target, self.against)

    def bound(self, look: Look) -> Method:
        """Return the method, bound to the network; the same for all pictures."""
        key = self.method, self.layer
        if key not in look.methods:
            look.methods[key] = METHODS.get(self.method).build(look.classifier, self.layer)
        return look.methods[key]

    def key(self, look: Look) -> str:
        """Return what identifies the map on disk; the network must be borrowed."""
        with look.classifier.looking_at(look.size):
            method = self.bound(look)
            layer = str(method.place) if isinstance(method, LayerMethod) else None
        resize = repr(look.classifier.resizing())
        about = [look.content, resize, look.fingerprint, self.target, self.against, method.params, layer, self.seed]
        return fingerprint([self.method, *about])

    def run(self, look: Look, context: StoppableContext, cache: Cache) -> Attribution:
        """Return the map, with its pictures."""
        with look.classifier.borrowed():
            key = self.key(look)
        known = cache.get(key)
        if known is not None:
            seen = look.pictures
            return replace(known, images=seen.pixels, frames=seen.frames, originals=seen.originals)
        attribution = self.bound(look).attribute(look.pictures, self.explained, context=context)
        cache.put(key, attribution)
        return attribution


@dataclass(frozen=True)
class CurveTask:
    """Measure the confidence while the lowest pixels of a map are removed."""

    map: MapTask
    mask: Any
    fill: Any

    @property
    def look(self) -> LookTask:
        """Network and picture."""
        return self.map.look

    @property
    def method(self) -> str:
        """The method of the map."""
        return self.map.method

    def run(self, look: Look, attribution: Attribution, context: StoppableContext) -> KeepCurve:
        """Return the curve."""
        pixels = look.pictures.pixels
        return keep_curve(look.classifier, pixels, attribution, None, LEVELS, self.mask, self.fill, context=context)


Task = LookTask | MapTask | CurveTask
