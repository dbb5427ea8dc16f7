"""The attribution: heatmaps and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xaikit.foundation.errors import BadInput
from xaikit.images.placing import Frame
from xaikit.images.shapes import unit, upsample
from xaikit.run.attribution import Attribution


def made(values: torch.Tensor, **changes) -> Attribution:
    count = len(values)
    whole = Attribution(
        values=values,
        target=torch.arange(count),
        scores=torch.rand(count),
        probabilities=torch.rand(count),
        method="grad-cam",
        params={"steps": 3, "fill": None, "sizes": [1, 2]},
        layer="layer4",
        size=(8, 6),
        target_names=tuple("abc"[:count]),
        flags=[{"constant", "halved"}, set(), {"invalid"}][:count],
        completeness=torch.rand(count),
        diagnostics={"minimum": torch.rand(count)},
    )
    return replace(whole, **changes)


def test_heatmap_is_enlarged_first_and_scaled_then():
    values = torch.randn(3, 4, 3)
    assert torch.equal(made(values).heatmap(), unit(upsample(values, (8, 6)))[0])
    assert made(values).heatmap((5, 5)).shape == (3, 5, 5)
    assert made(values).heatmap().amax((1, 2)).tolist() == [1.0] * 3


def test_channels_are_summed():
    values = torch.randn(2, 3, 8, 6)
    assert torch.equal(made(values).heatmap(), made(values.sum(1)).heatmap())


@pytest.mark.parametrize(
    ("value", "expected"), [(2.0, 1.0), (0.0, 0.0), (-2.0, 0.0), (torch.nan, 0.0), (torch.inf, 0.0)]
)
def test_constant_and_invalid_maps(value, expected):
    assert (made(torch.full((2, 4, 3), value)).heatmap() == expected).all()


def test_unit_scale_is_only_clipped():
    values = torch.tensor([[[0.2, 0.4], [-1.0, 3.0]], [[0.5, 0.5], [0.5, 0.5]], [[torch.nan, 0.5], [0.5, 0.5]]])
    found = made(values, scale="unit", size=(2, 2)).heatmap()
    assert torch.equal(
        found, torch.tensor([[[0.2, 0.4], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    )


@pytest.mark.parametrize("scale", ["minmax", "unit"])
@pytest.mark.parametrize("shape", [(0, 4, 3), (0, 3, 4, 3)])
def test_no_image(scale, shape):
    empty = made(torch.zeros(shape), scale=scale)
    assert len(empty) == 0
    assert empty.heatmap().shape == (0, 8, 6)
    assert empty.heatmap((2, 2)).shape == (0, 2, 2)


def test_as_numpy():
    whole = made(torch.randn(2, 4, 3))
    assert np.array_equal(np.asarray(whole), whole.heatmap().numpy())
    assert np.asarray(whole, dtype=np.float64).dtype == np.float64


FRAMES = (Frame((20, 50), (0.0, 15.5, 20.0, 35.5)), None, Frame((8, 6), (0.0, 0.0, 8.0, 6.0)))


@pytest.mark.parametrize(
    "changes", [{"frames": FRAMES}, {"completeness": None, "layer": None, "scale": "unit", "diagnostics": {}}]
)
def test_round_trip(tmp_path, changes):
    whole = made(torch.randn(3, 4, 3).transpose(1, 2), **changes)
    whole.save(tmp_path / "a.safetensors")
    found = Attribution.load(tmp_path / "a.safetensors")
    for name, value in vars(whole).items():
        other = getattr(found, name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other), name
        elif name == "diagnostics":
            assert all(torch.equal(value[key], other[key]) for key in value | other)
        else:
            assert value == other, name


def test_frames_go_with_their_images():
    whole = made(torch.randn(3, 4, 3), frames=FRAMES)
    assert whole[1:].frames == FRAMES[1:]
    assert Attribution.join([whole[2], made(torch.randn(1, 4, 3))]).frames == (FRAMES[2], None)
    assert Attribution.join([made(torch.randn(2, 4, 3))] * 2).frames == ()


def test_tensors_that_share_their_memory_are_saved(tmp_path):
    whole = made(torch.randn(3, 4, 3))
    replace(whole, probabilities=whole.scores, completeness=whole.scores).save(tmp_path / "a.safetensors")
    assert torch.equal(Attribution.load(tmp_path / "a.safetensors").completeness, whole.scores)


def test_what_is_no_attribution(tmp_path):
    (tmp_path / "text").write_text("text")
    (tmp_path / "folder").mkdir()
    for name in ("text", "folder", "missing"):
        with pytest.raises(BadInput, match="expected a saved attribution"):
            Attribution.load(tmp_path / name)


def per_image(count: int) -> Attribution:
    """Return an attribution whose every field differs from image to image."""
    number = torch.arange(count)
    return Attribution(
        values=number[:, None, None].double().expand(count, 2, 2) + torch.eye(2),
        target=number,
        scores=number.double(),
        probabilities=number / max(1, count),
        method="any",
        params={"steps": number.tolist(), "areas": (0.1, 0.2)},
        layer=None,
        size=(4, 4),
        target_names=tuple(f"class {i}" for i in range(count)),
        flags=[{f"flag {i}"} for i in range(count)],
        completeness=number.double(),
        diagnostics={"minimum": number.double()},
        seconds=2.0 * count,
    )


def test_a_part_speaks_of_its_images_and_the_parts_join_again() -> None:
    whole = per_image(5)
    part = whole[1:3]
    assert part.target.tolist() == [1, 2]
    assert part.target_names == ("class 1", "class 2")
    assert part.flags == [{"flag 1"}, {"flag 2"}]
    assert part.params == {"steps": [1, 2], "areas": (0.1, 0.2)}
    assert part.seconds == 4.0
    assert whole[3:4].params["steps"] == 3
    joined = Attribution.join([whole[:1], whole[1:4], whole[4:]])
    for name in ("values", "target", "scores", "probabilities", "completeness"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    assert (joined.params, joined.flags, joined.target_names) == (whole.params, whole.flags, whole.target_names)
    assert joined.seconds == whole.seconds
    assert len(whole[5:]) == 0


def test_what_was_decided_per_image_survives_a_file(tmp_path: Path) -> None:
    whole = per_image(2)
    whole.save(tmp_path / "any.safetensors")
    loaded = Attribution.load(tmp_path / "any.safetensors")
    assert loaded.params == whole.params
    assert (loaded.seconds, loaded.reduction) == (whole.seconds, whole.reduction)


def test_kept_channels_are_shown_by_the_methods_own_reduction() -> None:
    values = torch.tensor([[[[1.0, -4.0]], [[2.0, 1.0]]]])
    base = replace(per_image(1), values=values, size=(1, 2))
    assert replace(base, reduction="sum").heatmap().tolist() == [[[1.0, 0.0]]]
    assert replace(base, reduction="max-abs").heatmap().tolist() == [[[0.0, 1.0]]]


GOOD = {
    "schema": 1,
    "method": "any",
    "params": {"steps": [0, 1]},
    "per_image": ["steps"],
    "layer": None,
    "size": [4, 4],
    "scale": "minmax",
    "target_names": ["a", "b"],
    "callable": False,
    "flags": [[], []],
    "seconds": 1.0,
    "reduction": "sum",
}


def written(path: Path, about: object, **tensors: torch.Tensor) -> Path:
    import json

    from safetensors.torch import save_file

    own = {name: torch.zeros(2) for name in ("target", "scores", "probabilities")} | {"values": torch.zeros(2, 3, 3)}
    save_file(own | tensors, path, {"xaikit": about if isinstance(about, str) else json.dumps(about)})
    return path


def test_what_the_hostile_files_are_made_of_is_an_attribution(tmp_path: Path) -> None:
    assert Attribution.load(written(tmp_path / "a", GOOD)).params == {"steps": [0, 1]}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": "1"},
        {"method": 3},
        {"params": []},
        {"params": {}},
        {"params": {"steps": 4}},
        {"per_image": 7},
        {"layer": 4},
        {"size": []},
        {"size": [4]},
        {"size": [4, -1]},
        {"size": "44"},
        {"scale": "log"},
        {"target_names": None},
        {"target_names": ["a"]},
        {"flags": {}},
        {"flags": [3, 4]},
        {"flags": [["a"]]},
        {"seconds": "soon"},
        {"frames": [None]},
        {"frames": [[[4, 4], [0, 0, 4]], None]},
        {"reduction": 5},
    ],
    ids=str,
)
def test_metadata_of_another_form_is_one_line(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="expected a saved attribution") as caught:
        Attribution.load(written(tmp_path / "a", GOOD | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("about", ["", "[]", "3", "null", "{", '{"schema": 1}'])
def test_metadata_that_is_no_metadata_is_one_line(tmp_path: Path, about: str) -> None:
    with pytest.raises(BadInput, match="expected a saved attribution"):
        Attribution.load(written(tmp_path / "a", about))


@pytest.mark.parametrize(
    "tensors",
    [
        {"values": torch.zeros(2)},
        {"values": torch.zeros(3, 3, 3)},
        {"scores": torch.zeros(1)},
        {"scores": torch.tensor(1.0)},
        {"completeness": torch.zeros(5)},
        {"diagnostics.minimum": torch.zeros(1)},
    ],
    ids=str,
)
def test_tensors_of_other_shapes_are_one_line(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(BadInput, match="expected a saved attribution of"):
        Attribution.load(written(tmp_path / "a", GOOD, **tensors))


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = replace(per_image(2), values=torch.zeros(2, 300, 300))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a disk with no more room
    try:
        with pytest.raises(BadInput, match="cannot be written"):
            whole.save(tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
