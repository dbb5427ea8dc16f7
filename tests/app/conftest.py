"""An application without a page: two small networks, three pictures, and sessions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import draw
from tests.networks import Net, seeded
from xaikit import Classifier
from xaikit.app.cache import Cache
from xaikit.app.models import Models, of_classifiers
from xaikit.app.pictures import Shelf
from xaikit.app.session import Choice, Session

SIDE = 32
LABELS = ["cat", "dog", "<b>owl</b>"]


def network(seed: int) -> Classifier:
    """A small classifier of RGB pictures."""
    return Classifier(
        seeded(lambda: Net(len(LABELS)), torch.float32, seed).eval(),
        0.5,
        0.5,
        SIDE,
        LABELS,
        name="net",
        weights=f"w{seed}",
    )


@dataclass
class Desk:
    """What sessions share, and a way to open one."""

    models: Models
    shelf: Shelf
    cache: Cache
    open: Callable[..., Session]

    def classifier(self, place: int = 0) -> Classifier:
        return self.models.get(self.models.names[place])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    for name in ("uploads", "cache"):
        (tmp_path / name).mkdir()
    files = [draw(tmp_path / "photos" / f"{place}.png", place, SIDE) for place in range(3)]
    models = Models(of_classifiers([network(0), network(1)]))
    shelf, cache = Shelf(files, tmp_path / "uploads"), Cache(tmp_path / "cache")
    sessions: list[Session] = []

    def opened(**choice: Any) -> Session:
        wanted = {"picture": shelf.pictures()[0].id, "models": (models.names[0],), "methods": ("grad-cam",)} | choice
        sessions.append(Session(models, shelf, cache, Choice(**wanted)))
        return sessions[-1]

    yield Desk(models, shelf, cache, opened)
    for session in sessions:
        session.close()
    assert all(session.join() for session in sessions)


def state(classifier: Classifier) -> dict[str, Any]:
    """Everything of a network that a session must leave as it was."""
    modules = dict(classifier.network.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "values": {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()},
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {name: [len(getattr(module, kind)) for kind in hooks] for name, module in modules.items()},
        "gradients": [(one.requires_grad, one.grad) for one in classifier.network.parameters()],
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two states are equal."""
    values = before.pop("values"), after.pop("values")
    return before == after and all(torch.equal(values[0][name], values[1][name]) for name in values[0])
