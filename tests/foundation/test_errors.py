"""Errors: one tree, one line, near names."""

from __future__ import annotations

import pytest

from xaikit.foundation import errors


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.BadInput, ValueError),
        (errors.UnknownName, LookupError),
        (errors.NoSuchLayer, LookupError),
        (errors.MissingExtra, ImportError),
        (errors.BadChecksum, ValueError),
    ],
)
def test_tree(kind, builtin):
    assert issubclass(kind, errors.XaikitError)
    assert issubclass(kind, builtin)


def test_warning_is_no_error():
    assert issubclass(errors.XaikitWarning, UserWarning)
    assert not issubclass(errors.XaikitWarning, errors.XaikitError)


def test_unknown_name_offers_near_names_or_the_remedy():
    known = ["grad-cam", "layer-cam", "saliency"]
    assert str(errors.UnknownName("method", "Gradcam", known)) == "unknown method 'Gradcam'; did you mean grad-cam?"
    assert str(errors.UnknownName("method", "zzz", known, "run the list")) == "unknown method 'zzz'; run the list"


def test_no_such_layer_offers_the_last_ones_when_none_is_near():
    known = ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert "layer4" in str(errors.NoSuchLayer("layer5", known))
    assert "layer2, layer3, layer4" in str(errors.NoSuchLayer("zzz", known))
    assert "no layers" in str(errors.NoSuchLayer("zzz", []))


def test_missing_extra_prints_the_line_that_installs_it():
    assert "pip install 'xaikit[ray]'" in str(errors.MissingExtra("ray", "ray"))


def test_near_names_ignores_case_and_keeps_the_count():
    assert errors.near_names("GRAD-CAM", ["grad-cam"]) == ["grad-cam"]
    assert len(errors.near_names("cat", [f"cat{i}" for i in range(9)], count=2)) == 2
    assert errors.near_names("cats", ["cast", "cat", "dog"])[0] == "cat"
