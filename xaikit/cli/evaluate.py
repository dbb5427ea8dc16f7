"""`xaikit evaluate`: the figures of a classifier on labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xaikit.cli.exit_codes import SOME_FAILED
from xaikit.cli.lines import say, say_json
from xaikit.cli.options import Device, Json, Model, Weights

_MOST = 20  # classes whose confusion matrix is printed


def command(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="DIR/<class>/*.jpg, or DIR with a test or val folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for metrics.json and card.md.")] = None,
    weights: Weights = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in one pass.")] = 32,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure accuracy, sensitivity, specificity, F1 and ROC-AUC of a model on labelled images."""
    from xaikit import evaluate, load
    from xaikit.cli.terminal import left_out, progress_bar
    from xaikit.foundation.files import json_text

    classifier = load(model, weights=weights, device=device)
    with progress_bar() as bar, left_out() as bad:
        metrics = evaluate(classifier, data, output, batch_size=batch_size, progress=bar)
    if json:
        say_json(json_text(metrics))
    else:
        show(metrics, f"{metrics['images']} images of {metrics['data']}")
    if bad:
        raise typer.Exit(SOME_FAILED)


def show(metrics: Mapping[str, Any], what: str) -> None:
    """Print the figures of one set of images."""
    from xaikit.cli.terminal import print_table
    from xaikit.training.metrics import sole_prediction

    columns = ("precision", "recall", "specificity", "f1", "roc_auc")
    rows = [
        [name, *(_number(row[column]) for column in columns), str(row["images"])]
        for name, row in metrics["per_class"].items()
    ]
    rows.append(["macro average", *(_number(metrics["macro"][column]) for column in columns), ""])
    say(
        f"{what}: accuracy {metrics['accuracy']:.2%}, balanced accuracy {metrics['balanced_accuracy']:.2%}, "
        f"ROC-AUC {_number(metrics['roc_auc'])}"
    )
    if sole := sole_prediction(metrics):
        say(f"every image is predicted as {sole}; after a training, a lower learning rate or more epochs may help")
    titles = ["precision", "recall (sensitivity)", "specificity", "F1", "ROC-AUC", "images"]
    print_table(["class", *titles], rows, titles)
    names = list(metrics["per_class"])
    if len(names) <= _MOST:
        predicted = [*names, "other"][: len(metrics["confusion"][0])]
        counts = [[name, *map(str, row)] for name, row in zip(names, metrics["confusion"], strict=True)]
        print_table(["true \\ predicted", *predicted], counts, predicted)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
