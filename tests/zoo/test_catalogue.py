"""The catalogue agrees with torchvision and with the shipped folders."""

from __future__ import annotations

import torchvision.models as tv

from xaikit.zoo.catalogue import models, shipped_names


def test_what_is_known_of_torchvision_is_what_torchvision_says() -> None:
    known = {name: model for name, model in models().items() if model.source == "torchvision"}
    assert sorted(known) == sorted(tv.list_models(module=tv))
    for name, model in known.items():
        default = tv.get_model_weights(name).DEFAULT
        assert (model.weights, model.size) == (default.name, default.transforms().crop_size[0]), name
        assert model.licence == ("CC-BY-NC-4.0" if "license" in default.meta else "BSD-3-Clause"), name


def test_shipped_networks_and_those_with_weights_from_a_file_are_known() -> None:
    assert shipped_names() == ["lenet5-digits", "texture-cnn", "texture-vit"]
    assert [models()[name].size for name in shipped_names()] == [32, 64, 64]
    from_files = [name for name, model in models().items() if model.source == "file"]
    assert from_files == [
        "cifar-resnet20",
        "cifar-resnet32",
        "cifar-resnet44",
        "cifar-resnet56",
        "cifar-resnet110",
        "lenet5",
    ]
