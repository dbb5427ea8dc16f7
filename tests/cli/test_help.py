"""`xaikit help`: what a method or a measure is, does and costs, at 80 columns."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Command
from xaikit.cli.help import page
from xaikit.measures.base import MEASURES
from xaikit.methods.base import METHODS
from xaikit.run.cost import Cost


def test_a_method_in_another_spelling(run: Command) -> None:
    done = run("help", "GradCAM")
    assert (done.code, done.err) == (0, "")
    first, blank, *others = done.out.splitlines()
    assert (first, blank) == ("grad-cam: Activation maps weighted by their mean gradient.", "")
    assert others[0].startswith("The gradient of the class score is averaged")
    for line in (
        "    map = relu(sum_k mean_xy(d score / d A_k) * A_k)",
        "  layer = none",
        "Map: not signed, specific to the class",
        "Needs: the activations and gradients of a layer",
        "Cost: 1 forward + 0.05 backwards for one image on resnet50",
        "Source: Selvaraju et al., ICCV 2017, eq. 1-2, arXiv:1610.02391.",
        "Departs from source: nothing.",
    ):
        assert line in others


def test_a_measure_has_the_parameters_of_its_bases(run: Command) -> None:
    lines = run("help", "APD").out.splitlines()
    assert lines[0] == "apd: Relative drop of confidence; its mean is the Average Probability Drop."
    for line in ('  mask = "soft"', "  level = 0", "Better: lower", "Range: 0 to 1", "Cost: 10 forwards for each map"):
        assert line in lines


def test_an_unknown_name_is_one_line(run: Command) -> None:
    done = run("help", "insertoin")
    assert (done.code, done.line) == (2, "xaikit: unknown method or measure 'insertoin'; did you mean insertion?")


def test_every_parameter_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaikit.cli.passes.passes", lambda kind: Cost(1))  # resnet50 takes seconds
    for entry in (registry.get(name) for registry in (METHODS, MEASURES) for name in registry.names()):
        lines = list(page(entry))
        assert max(map(len, lines)) <= 80
        for name in entry.parameter_names():
            (place,) = [number for number, line in enumerate(lines) if line.startswith(f"  {name} = ")]
            assert lines[place + 1].startswith("      ")
            assert lines[place + 1].strip()[0] != "(", (entry, name)
