"""Calibration on models whose best threshold is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.methods.activation.calibration import calibrate
from xaikit.model.classifier import Classifier


class Wants(nn.Module):
    """Most confident when exactly the pixels of `wanted` are left: its logit counts right minus wrong ones."""

    def __init__(self, wanted: Tensor) -> None:
        super().__init__()
        self.register_buffer("sign", torch.where(wanted, 1.0, -1.0))

    def forward(self, x: Tensor) -> Tensor:
        score = (x[:, 0] * self.sign).sum((1, 2))
        return torch.stack([-score, score], 1)


def scene(level: int) -> tuple[Classifier, Tensor, Tensor]:
    """Return a model that wants the top `10 - level` tenths of a 10x10 ramp, an image of ones, and the ramp."""
    ramp = ((torch.arange(100) + 1) / 100).reshape(1, 10, 10)
    wanted = ramp[0] > level / 10
    return Classifier(Wants(wanted), size=10, channels=1, layer=None), torch.ones(1, 1, 10, 10) * 0.05, ramp


@pytest.mark.parametrize("level", [0, 3, 7, 9])
def test_fixed_applies_the_best_level_and_official_the_next(level: int) -> None:
    clf, x, ramp = scene(level)
    maps, applied = calibrate(clf, x, ramp, 1)
    assert applied.tolist() == [level]
    assert torch.equal(maps, torch.where(ramp > level / 10, ramp, 0))
    maps, applied = calibrate(clf, x, ramp, 1, "official")
    assert applied.tolist() == [level + 1]
    assert torch.equal(maps, torch.where(ramp > (level + 1) / 10, ramp, 0))
    if level == 9:
        assert float(maps.abs().max()) == 0


def test_no_gain_anywhere_keeps_the_map_or_drops_a_tenth() -> None:
    clf, x, ramp = scene(0)
    assert calibrate(clf, x, ramp, 0)[1].tolist() == [9]
    clf.network.sign.zero_()
    maps, applied = calibrate(clf, x, ramp, 1)
    assert applied.tolist() == [0]
    assert torch.equal(maps, ramp)
    assert calibrate(clf, x, ramp, 1, "official")[1].tolist() == [1]


def test_images_are_calibrated_one_by_one() -> None:
    clf, x, ramp = scene(6)
    maps = torch.cat([ramp, ramp.flip(1, 2), torch.ones_like(ramp)])
    together = calibrate(clf, x.repeat(3, 1, 1, 1), maps, 1)
    for i in range(3):
        alone = calibrate(clf, x, maps[i : i + 1], 1)
        assert torch.equal(together[0][i], alone[0][0])
        assert together[1][i] == alone[1][0]


def test_wrong_maps_are_refused() -> None:
    clf, x, ramp = scene(5)
    with pytest.raises(BadInput, match="expected fixed or official"):
        calibrate(clf, x, ramp, 1, "best")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"in \[0, 1\]"):
        calibrate(clf, x, ramp * 2, 1)
    with pytest.raises(BadInput, match=r"expected \(1, 10, 10\)"):
        calibrate(clf, x, ramp[:, :5], 1)
