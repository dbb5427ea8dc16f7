"""Parameters are checked by their types, in the constructor as well as by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge, Lt
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count, NotNegative, Parameters, Positive, Share


@dataclass(frozen=True)
class Example(Parameters):
    model: object = None
    steps: Count = 10
    width: Positive = 0.5
    level: NotNegative = 0.0
    share: Share | None = None
    sizes: Annotated[int, Ge(1), Lt(9)] | tuple[Annotated[int, Ge(1), Lt(9)], ...] = 3
    kind: Literal["soft", "binary"] = "soft"
    fill: Literal["mean"] | Tensor = "mean"
    keep: bool = False
    names: tuple[str, ...] = ()

    not_parameters = frozenset({"model"})

    def check(self) -> None:
        if self.kind == "binary" and self.keep:
            raise BadInput("keep: expected soft masks, got binary; give kind='soft'")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1, got 0; the default is 10"),
        ({"steps": 2.5}, "steps: expected a whole number from 1, got 2.5; the default is 10"),
        ({"steps": True}, "steps: expected a whole number from 1, got True; the default is 10"),
        ({"steps": None}, "steps: expected a whole number from 1, got NoneType; the default is 10"),
        ({"width": 0}, "width: expected a number above 0, got 0; the default is 0.5"),
        ({"width": float("nan")}, "width: expected a number above 0, got nan; the default is 0.5"),
        ({"level": float("inf")}, "level: expected a number from 0, got inf; the default is 0.0"),
        ({"share": 2}, "share: expected a number from 0 and up to 1 or None, got 2"),
        (
            {"sizes": (1, 9)},
            "sizes: expected a whole number from 1 and below 9, or several, got (1, 9); the default is 3",
        ),
        ({"kind": "hard"}, "kind: expected soft or binary, got 'hard'"),
        ({"fill": "grey"}, "fill: expected mean or a tensor, got 'grey'"),
        ({"keep": "perhaps"}, "keep: expected true or false, got 'perhaps'; the default is False"),
        ({"names": 5}, "names: expected several of a text, got 5; the default is ()"),
        ({"kind": "binary", "keep": True}, "keep: expected soft masks, got binary; give kind='soft'"),
    ],
)
def test_what_does_not_fit_is_one_line(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        Example(**wrong)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_values_take_the_declared_type() -> None:
    example = Example(steps=np.int64(4), width=1, sizes=[1, 2], fill=torch.ones(3))  # type: ignore[arg-type]
    assert (example.steps, type(example.steps)) == (4, int)
    assert (example.width, type(example.width)) == (1.0, float)
    assert example.sizes == (1, 2)
    assert torch.equal(example.fill, torch.ones(3))
    assert Example.checked("steps", "7") == 7


def test_what_is_no_parameter_stays_unchecked_and_replacing_checks_again() -> None:
    example = Example(model={"any": "thing"})
    assert example.parameter_names()[0] == "steps"
    assert "model" not in example.params
    with pytest.raises(BadInput, match="steps"):
        replace(example, steps=-1)


def test_a_misspelt_name_gets_the_nearest_parameters() -> None:
    with pytest.raises(BadInput, match=r"unknown parameter 'step'; did you mean steps"):
        Example.check_names(["step"])
