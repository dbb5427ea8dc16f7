"""A benchmark in Python, of named or own classifiers and of pictures in a folder or in memory.

xaikit.benchmark({"mine": clf}, "photos", ["grad-cam", "lrp"], ["insertion", "apd"], "out/mine")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from xaikit.benchmark.defaults import default_controls
from xaikit.benchmark.own import Own
from xaikit.benchmark.run import Outcome, run
from xaikit.benchmark.score import Images
from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import fingerprint
from xaikit.images.hashes import image_hashes
from xaikit.images.shapes import check_images, check_range
from xaikit.methods.base import METHODS, LayerMethod, Method
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.report.numbers.read import read_benchmark
from xaikit.run.context import Progress
from xaikit.run.progress import reported
from xaikit.runs.page import write_all
from xaikit.runs.pictures import write_pictures
from xaikit.runs.telling import tell

if TYPE_CHECKING:
    import pandas as pd

Models = str | Classifier | Sequence[str] | Mapping[str, Classifier | str]
Pictures = str | Path | Images | tuple[Any, ...] | Dataset[Any]

_PLAIN = (str, int, float, bool, list, tuple, type(None))


def benchmark(
    models: Models,
    data: Pictures,
    methods: Sequence[str | Method | Mapping[str, Any]],
    measures: Sequence[str | Mapping[str, Any]] | None = None,
    output: str | Path = "out",
    *,
    masks: str | Path | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
    notice: Callable[[str], None] = tell,
    **suite: Any,
) -> pd.DataFrame:
    """Measure explanations, write rows and report to a folder, and return the rows.

    The same call again continues where it stopped; finished work is not repeated. Rows are told apart by what they
    depend on: weights and code of the classifiers, content of the pictures, parameters, versions.

    Args:
        models: a classifier, a name, several names, or both by the name that rows have.
        data: a folder of images, or of one sub-folder for each class; or (images, labels, masks), the latter two
            optional: pixels (N, C, H, W) in [0, 1], class indices (N,), and bool (N, H, W), True on the evidence; or a
            torch Dataset of such triples of one image each, (C, H, W), which is read whole.
        methods: names, or {"name": ..., "params": {...}, "label": ...}, or bound methods, whose parameters are taken,
            or {"theirs": maps}, maps (N, h, w) of your own of pictures in memory; the controls are added.
        measures: names, or entries of the same form; None takes those that cost little.
        output: folder of rows and report.
        masks: the evidence of the pictures of a folder: a folder of masks under the same names, all but black being
            evidence; a CSV file of boxes (file, left, top, right, bottom); or a JSON file of COCO annotations.
        device: device of the models that are given by name.
        progress: as in `attribute`.
        notice: called with one line for each announcement and for each new reason why an image failed.
        **suite: further keys of a suite, such as target="label", seeds=(0, 1), levels=10, maps="keep", title="...".

    Returns:
        One row for each image and method, with the columns of `benchmark/rows.py`; what failed has status "error".

    Raises:
        BadInput: an argument is invalid, or every unit failed.
    """
    own = {name: one for name, one in _named(models).items() if isinstance(one, Classifier)}
    entries = [
        {"own": name in own, "name": name if name in own else one, "label": name}
        for name, one in _named(models).items()
    ]
    given = None if isinstance(data, str | Path) else _images(data)
    maps = _maps(methods, given)
    named = [_entry(one) if isinstance(one, Method) else one for one in methods if not _is_maps(one)]
    if maps and not named:
        named = list(suite.get("controls", default_controls()))[:1]  # a suite has a method
    if maps and not named:
        raise BadInput("methods: expected a method or controls beside maps of your own, got none; add one to compare")
    about: dict[str, Any] = {"masks": None if masks is None else Path(masks).absolute()}
    about |= {"kind": "given", "name": given.dataset} if given else {"kind": "auto", "path": Path(data).absolute()}  # type: ignore[arg-type]
    optional = {} if measures is None else {"measures": list(measures)}
    definition = Suite.of(models=entries, data=about, methods=named, **optional, **suite)
    if taken := sorted(maps.keys() & {method.title for method in definition.all_methods}):
        raise BadInput(f"methods: expected different names, got {taken[0]!r} twice; give your maps another name")
    with reported(progress) as report:
        carried_out(definition, Path(output), Own(own, given, maps), device=device, progress=report, notice=notice)
    import pandas as pd

    return pd.DataFrame(read_benchmark(output).rows)


def carried_out(
    definition: Suite,
    output: Path,
    own: Own | None = None,
    *,
    notice: Callable[[str], None],
    device: str = "auto",
    pictures: bool = True,
    **options: Any,
) -> Outcome:
    """Run a suite and write its report.

    Args:
        definition: the suite.
        output: folder of rows and report.
        own: classifiers and images of the caller.
        notice: called with one line for each announcement.
        device: device of the models.
        pictures: whether to draw the images of the report; never for a shard.
        **options: those of `benchmark.run.run`.

    Raises:
        BadInput: the suite cannot be run, or every unit failed.
    """
    outcome = run(definition, output, device=device, notice=notice, own=own, **options)
    if options.get("shard") is not None and not outcome.units:
        return outcome
    if outcome.failed and not outcome.done:
        image, method, reason = outcome.failed[0]
        more = f" (and {len(outcome.failed) - 1} more failed)" if len(outcome.failed) > 1 else ""
        raise BadInput(f"{image}: {method}: {reason}{more}")
    results = read_benchmark(output)
    if pictures and options.get("shard") is None:
        write_pictures(definition, output, results, device, notice, own)
    write_all(output, results, notice)
    return outcome


def _named(models: Models) -> dict[str, Classifier | str]:
    if isinstance(models, Classifier):
        return {models.name: models}
    if isinstance(models, Mapping):
        for name, one in models.items():
            if not isinstance(one, str):
                check_classifier(one)
            if not isinstance(name, str) or not name:
                raise BadInput(f"models: expected classifiers by name, got the name {name!r}")
        return dict(models)
    names: list[Any] = [models] if isinstance(models, str) else list(models)
    for name in names:
        if not isinstance(name, str):
            raise BadInput(f'models: expected names, got {type(name).__name__}; give {{"mine": classifier}}')
    return {name: name for name in names}


def _entry(method: Method) -> dict[str, Any]:
    """Return the entry of a suite for a bound method.

    Raises:
        BadInput: it reads another layer than its classifier names, or no method is registered under its name.
    """
    if METHODS.get(method.name) is not type(method):
        raise BadInput(f"methods: expected a registered method, got {type(method).__name__}; see xaikit.extend")
    classifier = method.classifier
    if isinstance(method, LayerMethod) and str(method.place) != str(classifier.resolve_layer(None)):
        raise BadInput(
            f"{method.name}: expected the layer of its classifier, got {method.place}; give it to Classifier"
        )
    plain = type(method).build(classifier)
    params = {
        name: value for name, value in method.params.items() if fingerprint(value) != fingerprint(plain.params[name])
    }
    for name, value in params.items():
        if not isinstance(value, _PLAIN):
            raise BadInput(f"{method.name}: {name}: expected a number or text, got {type(value).__name__}")
    return {"name": method.name, "params": params}


def _is_maps(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "name" not in entry and "family" not in entry


def _maps(methods: Sequence[Any], given: Images | None) -> dict[str, dict[str, Tensor]]:
    """Return the caller's maps among the methods, by name and by the content hash of their image.

    Raises:
        BadInput: there are no pictures in memory, or the maps are not finite numbers (N, h, w).
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, values in (pair for entry in methods if _is_maps(entry) for pair in entry.items()):
        if given is None:
            raise BadInput(f"{name}: expected pictures in memory with maps of your own, got a folder; read them first")
        maps = torch.as_tensor(values)
        if maps.ndim != 3 or len(maps) != len(given.pixels) or not maps.is_floating_point():
            got = f"{tuple(maps.shape)} {maps.dtype}"
            raise BadInput(f"{name}: expected maps ({len(given.pixels)}, h, w) of floats, one per image, got {got}")
        if not maps.isfinite().all():
            raise BadInput(f"{name}: expected finite maps, got NaN or infinity; replace it")
        found[name] = dict(zip(image_hashes(given.pixels), maps.detach().cpu().float(), strict=True))
    return found


def _images(data: Any) -> Images:
    """Return pictures in memory with their labels and masks.

    Raises:
        BadInput: they are not pixels, or labels or masks are of other counts or sizes.
    """
    if isinstance(data, Images):
        return data
    if isinstance(data, Dataset):
        data = _joined(data)
    parts = data if isinstance(data, tuple | list) else (data,)
    if not 1 <= len(parts) <= 3:
        raise BadInput(f"data: expected a folder, or (images, labels, masks), got {len(parts)} parts")
    images, labels, masks = (*(None if part is None else torch.as_tensor(part) for part in parts), None, None)[:3]
    if images is None or not images.is_floating_point():
        raise BadInput("data: expected images (N, C, H, W) of floats in [0, 1], got others; divide bytes by 255")
    check_images(images, images.shape[1] if images.ndim == 4 else 3)
    check_range(images, bounded=True)
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        expected = (len(images), *images.shape[2:])
        raise BadInput(f"masks: expected {expected}, one of each image's size, got {tuple(masks.shape)}; resize them")
    names = [f"{place:05d}" for place in range(len(images))]
    return Images(
        "given",
        names,
        images.detach().cpu().float(),
        None if labels is None else labels.cpu().long(),
        None if masks is None else masks.cpu().bool(),
    )


def _joined(data: Dataset[Any]) -> tuple[Any, ...]:
    """Return the images of a dataset, and what stands beside each.

    Raises:
        BadInput: it has no images, or its images have different sizes.
    """
    count = len(data) if isinstance(data, Sized) else 0
    samples = [one if isinstance(one, tuple | list) else (one,) for one in (data[place] for place in range(count))]
    if not samples:
        raise BadInput("data: expected a dataset with a length and images, got none")
    try:
        return tuple(torch.stack([torch.as_tensor(value) for value in part]) for part in zip(*samples, strict=True))
    except (RuntimeError, TypeError, ValueError) as error:
        got = str(error).splitlines()[0]
        raise BadInput(f"data: expected images of one size, and labels that are numbers, got {got}") from error
