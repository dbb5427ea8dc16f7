"""Work that can be stopped: a context whose next pass through the network raises `Stopped` once it is asked to.

The exception leaves the method as Ctrl-C does, so that the network comes back as it was. Portions are small enough
that one pass takes a fraction of a second.
"""

import threading
from dataclasses import dataclass, field

from torch import Tensor

from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

_PASS = 0.1  # seconds that one portion may take
_LARGEST = 64


class Stopped(BaseException):
    """The work was stopped on request; no error, so that nothing that handles errors catches it."""


@dataclass
class StoppableContext(Context):
    """The settings of a run that another thread can stop.

    Args:
        stop: an event; once it is set, the next pass raises `Stopped`.
    """

    stop: threading.Event = field(default_factory=threading.Event)

    not_parameters = Context.not_parameters | {"stop"}

    def check_stop(self) -> None:
        """Raise `Stopped` if the event is set."""
        if self.stop.is_set():
            raise Stopped

    def run(self, classifier: Classifier, inputs: Tensor) -> Tensor:
        """Return logits in the context's precision, unless the run is stopped."""
        self.check_stop()
        return super().run(classifier, inputs)


def portion(seconds: float) -> int:
    """Return the number of images in one pass for a network that takes `seconds` for one image."""
    return max(1, min(_LARGEST, int(_PASS / max(seconds, 1e-6))))
