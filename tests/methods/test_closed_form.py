"""Every method has a second derivation, and agrees with it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.methods.replicas as replicas
from tests.methods.replicas import REPLICAS, Replica
from tests.methods.small import COSTLY
from xaikit.methods.base import METHODS

for module in pkgutil.iter_modules(replicas.__path__, "tests.methods.replicas."):
    importlib.import_module(module.name)

SLOW = (*COSTLY, "le-grad", "partition-shap")
CASES = [
    pytest.param(one, id=f"{name}-{one.__name__.strip('_')}", marks=[pytest.mark.slow] if name in SLOW else [])
    for name, derivations in REPLICAS.items()
    for one in derivations
]


@pytest.mark.parametrize("replica", CASES)
def test_agrees_with_its_second_derivation(replica: Replica) -> None:
    replica()


def test_every_method_has_a_second_derivation() -> None:
    assert sorted(REPLICAS) == METHODS.names()
