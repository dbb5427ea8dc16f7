"""Other packages are imported when one of their methods is asked for, and refused with the remedy when missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xaikit.foundation.errors import MissingExtra, UnknownName
from xaikit.foundation.registry import Registry
from xaikit.methods.base import METHODS

OTHERS = ("captum", "pytorch_grad_cam", "torchcam", "shap")


@pytest.mark.slow
def test_listing_works_after_one_method_and_imports_no_other_package() -> None:
    program = (
        "import xaikit.methods.controls.ones, sys, xaikit, xaikit.cli.app\n"
        "from xaikit.methods.base import METHODS\n"
        "assert 'grad-cam' in xaikit.methods() and 'api' in xaikit.measures()\n"
        "METHODS.get('grad-cam'), METHODS.names()\n"
        f"assert not set(sys.modules) & set({OTHERS})\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_native_names_have_no_slash() -> None:
    assert not [name for name in METHODS.names() if "/" in name]


@pytest.mark.parametrize("package", ["captum", "pytorch-grad-cam", "torchcam"])
def test_a_missing_package_is_named_with_the_remedy(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = package.replace("-", "_")
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"xaikit.backends.{module}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    registry = Registry("method", "xaikit.methods", guests="xaikit.backends")
    with pytest.raises(MissingExtra, match=r"is not installed; run: pip install 'xaikit\[backends\]'"):
        registry.get(f"{package}/grad-cam")


def test_a_package_that_is_no_guest_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName, match="unknown method 'nobody/saliency'"):
        METHODS.get("nobody/saliency")


@pytest.mark.backends
def test_a_misspelt_guest_has_near_names() -> None:
    pytest.importorskip("torchcam", reason="the extra `backends` is not installed")
    with pytest.raises(UnknownName, match="did you mean torchcam/grad-cam"):
        METHODS.get("torchcam/grad-can")
