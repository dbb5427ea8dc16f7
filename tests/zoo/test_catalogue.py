"""The catalogue agrees with torchvision and with the shipped folders, and needs no torch."""

from __future__ import annotations

import subprocess
import sys

import torchvision.models as tv

from xaikit.zoo.catalogue import CIFAR_DEPTHS, models, shipped_names


def test_what_is_known_of_torchvision_is_what_torchvision_says() -> None:
    known = {name: model for name, model in models().items() if model.source == "torchvision"}
    assert sorted(known) == sorted(tv.list_models(module=tv))
    for name, model in known.items():
        default = tv.get_model_weights(name).DEFAULT
        assert (model.weights, model.size) == (default.name, default.transforms().crop_size[0]), name
        assert model.licence == ("CC-BY-NC-4.0" if "license" in default.meta else "BSD-3-Clause"), name


def test_shipped_and_cifar_networks_are_known() -> None:
    assert shipped_names() == ["lenet5-digits", "texture-cnn"]
    assert {name: models()[name].size for name in shipped_names()} == {"lenet5-digits": 32, "texture-cnn": 64}
    assert [name for name, model in models().items() if model.source == "cifar"] == list(CIFAR_DEPTHS)


def test_listing_models_imports_no_torch() -> None:
    code = "import sys, xaikit.zoo.catalogue as c; assert len(c.models()) > 80; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
