"""Explanations of image files, written to a folder.

xaikit.explain_files(clf, "photos", ["grad-cam", "lrp"], "out")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from xaikit.explaining.run import Result, explain
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.files import output_directory
from xaikit.images.drawing import illustrate
from xaikit.images.folders import walk_each
from xaikit.images.reading import ReadPolicy
from xaikit.images.scaling import value_range as stated
from xaikit.methods.base import METHODS, LayerMethod, Method
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.run.attribution import View
from xaikit.run.context import Context, Progress
from xaikit.run.progress import reported
from xaikit.runs.telling import tell


def explain_files(
    classifier: Classifier,
    paths: str | Path | Sequence[str | Path],
    methods: str | Method | Sequence[str | Method] = "grad-cam",
    output: str | Path = "out",
    *,
    target: Any = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    layer: str | nn.Module | None = None,
    seed: int = 0,
    resize: ReadPolicy | None = None,
    value_range: Sequence[float] | None = None,
    view: View = "original",
    pictures: bool = True,
    progress: Progress | bool | None = None,
    notice: Callable[[str], None] = tell,
    command: str = "",
) -> Result:
    """Explain image files and write a panel per image, an overlay per method, attributions.npz and results.json.

    The same call again continues an interrupted run; results of any other run move to `earlier` in the folder.

    Args:
        classifier: the model.
        paths: images, and folders of images.
        methods: names, or methods that are bound to the classifier.
        output: folder to write.
        target: None (top class), index, label or `Contrast` of them, the same for all images.
        params: parameters of the named methods, by name.
        layer: target layer of the named methods that read one; None is the classifier's.
        seed: seed of random draws.
        resize: how pictures are resized, as in `Classifier.read`.
        value_range: black and white of pictures with more than 8 bits, as in `Classifier.read`.
        view: "original" draws the whole pictures, "crop" what the network saw.
        pictures: whether panels and overlays are drawn; the values alone take a tenth of the time for a fast method.
        progress: as in `attribute`.
        notice: called with one line for each failure, and for results that are kept or moved; None of it is an error.
        command: command line to record.

    Returns:
        The result: `records`, one for each image and method and one for each image that failed, `done`, `failed` and
        `interrupted`, True after Ctrl-C; what was explained until then is kept.

    Raises:
        UnknownName: no method has one of the names.
        BadInput: there is no image, an argument is invalid, or all images fail for the same reason.
    """
    check_classifier(classifier)
    named = [methods] if isinstance(methods, str | Method) else list(methods)
    bound = [one if isinstance(one, Method) else _bound(one, classifier, layer, params or {}) for one in named]
    if not bound:
        raise BadInput("methods: expected at least one, got none; xaikit.methods() lists the names")
    if lost := sorted({*(params or {})} - {one for one in named if isinstance(one, str)}):
        raise BadInput(f"params: expected names among the methods, got {lost[0]!r}")
    roots = [paths] if isinstance(paths, str | Path) else list(paths)
    files = image_files([Path(root) for root in roots], Path(output))
    output_directory(output)
    with reported(progress) as report:
        return explain(
            files,
            bound,
            output,
            illustrate if pictures else None,
            target=target,
            context=Context(seed=seed, progress=report),
            view=view,
            value_range=stated(value_range),
            resize=resize,
            command=command,
            notice=notice,
        )


def _bound(
    name: str, classifier: Classifier, layer: str | nn.Module | None, params: Mapping[str, Mapping[str, Any]]
) -> Method:
    kind = METHODS.get(name)
    return kind.build(classifier, layer if issubclass(kind, LayerMethod) else None, **params.get(name, {}))


def image_files(paths: Sequence[Path], output: Path) -> list[tuple[Path, XaikitError | None]]:
    """Return all image files, and the paths without an image with their error.

    When a folder contains the output folder, the pictures that an earlier run wrote there are skipped.

    Raises:
        BadInput: there is no image.
    """
    written = [output.absolute() / name for name in ("panels", "overlays", "earlier")]
    files: list[tuple[Path, XaikitError | None]] = []
    for root in paths:
        skipped = [folder for folder in written if root.absolute() in folder.parents]
        for path, error in walk_each([root]):
            if not any(path.absolute().is_relative_to(folder) for folder in skipped):
                files.append((path, error))
    if not files:
        raise BadInput(f"{paths[0] if paths else 'paths'}: expected images, got only the results of an earlier run")
    errors = [error for _, error in files if error is not None]
    if len(errors) == len(files):
        raise BadInput(f"{errors[0]}" + (f" (and {len(errors) - 1} more like it)" if len(errors) > 1 else ""))
    return files
