"""Libra-CAM's filter, branch by branch, on gains made by hand."""

from __future__ import annotations

import torch

from xaikit.methods.activation.libra_cam import kept_references


def test_kept_references_in_the_three_branches() -> None:
    everything = torch.ones(1, 4, dtype=torch.bool)

    def kept(gains: list[float], present: torch.Tensor = everything) -> list[bool]:
        return kept_references(torch.tensor([gains]), present)[0].tolist()

    # Improved: 0.1, 0.5, 0.6 with mean 0.4 and deviation 0.216: 0.1 is below 0.184.
    assert kept([0.1, 0.5, 0.6, -0.3]) == [False, True, True, False]
    # None improves: mean -0.325, deviation 0.179: only -0.1 lies strictly above -0.146.
    assert kept([-0.1, -0.2, -0.4, -0.6]) == [True, False, False, False]
    # None improves and none stands out (all equal): all stay.
    assert kept([-0.2, -0.2, -0.2, -0.2]) == [True, True, True, True]
    # A reference that says nothing is never kept, whatever its gain.
    assert kept([0.9, -0.2, -0.2, -0.2], torch.tensor([[False, True, True, True]])) == [False, True, True, True]
    # One improved reference has no deviation and stays.
    assert kept([0.1, -0.5, -0.6, -0.3]) == [True, False, False, False]
