"""Adebayo's sanity check on real networks: maps must change when the network forgets; guided backprop's lag behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xaikit
from xaikit.measures.base import Subject
from xaikit.measures.randomisation.parameter_randomisation import ParameterRandomisation

pytestmark = [pytest.mark.real, pytest.mark.slow]

METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "integrated-gradients": {"steps": 8},
    "lrp": {},
    "guided-backprop": {},
}
NETWORKS = {"squeezenet1_0": "squeezenet1_0_imagenet.pth", "cifar-resnet20": "resnet20_cifar10.pth"}


@pytest.mark.parametrize("network", NETWORKS)
def test_maps_change_when_the_network_forgets(
    network: str, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Print Spearman's correlation of |map| with that of the network whose top groups of modules are drawn anew.

    Once most modules are random, guided backprop's maps differ as well: each parameter is drawn with its own mean.
    """
    clf = xaikit.load(network, weights=real_data / "weights" / NETWORKS[network])
    folder = real_data / ("imagenet" if clf.classes == 1000 else "cifar10/cat")
    pixels = clf.read(sorted(folder.glob("*.jpg"))[:3])
    curves = {}
    for name, params in METHODS.items():
        method = xaikit.get_method(name)(clf, **params)
        made = method.attribute(pixels)
        subject = Subject(clf, pixels, made.heatmap(), made.target, method=method, attribution=made)
        curves[name] = ParameterRandomisation(stages=5).curve(subject).mean(0)
    with capsys.disabled():
        print(f"\n{network}: likeness after 1 to 5 of 5 groups of modules were drawn anew, logits first")  # noqa: T201 - what the test is for
        for name, curve in curves.items():
            print(f"    {name:24s}" + "".join(f"{value:7.3f}" for value in curve.tolist()))  # noqa: T201
    sensitive = torch.stack([curves[name] for name in METHODS if name != "guided-backprop"])
    assert (sensitive < 0.6).all()
    assert curves["guided-backprop"][0] > 0.75
    assert (curves["guided-backprop"][:2] > sensitive[:, :2].amax(0)).all()
