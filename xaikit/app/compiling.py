"""shap's first use, which compiles its loops for several seconds and cannot be stopped, in a thread of its own."""

import threading
from functools import cache

import numpy as np
import torch

from xaikit.api import attribute
from xaikit.app.stopping import StoppableContext
from xaikit.model.classifier import Classifier
from xaikit.run.portions import attempt

COMPILED = "partition-shap"
"""The method that needs it."""

_WAIT = 0.05  # seconds between two looks at whether to stop


def wait_until_compiled(context: StoppableContext) -> None:
    """Wait for shap's loops to be compiled, once a process; the waiting can be stopped."""
    thread = _thread()
    while thread.is_alive():
        context.check_stop()
        thread.join(_WAIT)


@cache
def _thread() -> threading.Thread:
    thread = threading.Thread(target=_first_use, name="xaikit app compiles", daemon=True)
    thread.start()
    return thread


def _first_use() -> None:
    """Run the method on a function, so that no network is held; why it fails is told where it is used."""
    even = Classifier.from_function(lambda pixels: np.full((len(pixels), 2), 0.5), size=4)
    attempt(
        lambda images: [attribute(even, image, 0, COMPILED, samples=4) for image in images], [torch.zeros(1, 3, 4, 4)]
    )
