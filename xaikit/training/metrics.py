"""Classification metrics from a confusion matrix, and the model card that reports them.

    precision_c = C[c, c] / sum_r C[r, c]      recall_c = C[c, c] / sum_p C[c, p]      F1 = 2 PR / (P + R)

Shapes: confusion (K, K), row = true class, column = predicted class. 0 / 0 counts as 0.
Averages: macro over classes; weighted by the number of images per class; micro over images (equal to the accuracy).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Return the counts (classes, classes) of true labels (rows) against predictions (columns)."""
    return torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)


def classification_metrics(confusion: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, precision, recall and F1 per class, averages of these, and the confusion matrix."""
    counts = confusion.double()
    hits, support = counts.diagonal(), counts.sum(1)
    precision = _quotient(hits, counts.sum(0))
    recall = _quotient(hits, support)
    f1 = _quotient(2 * precision * recall, precision + recall)
    accuracy = (hits.sum() / counts.sum()).item()
    scores = {"precision": precision, "recall": recall, "f1": f1}
    return {
        "accuracy": accuracy,
        "per_class": {
            name: {score: values[i].item() for score, values in scores.items()} | {"images": int(support[i])}
            for i, name in enumerate(names)
        },
        "macro": {score: values.mean().item() for score, values in scores.items()},
        "micro": dict.fromkeys(scores, accuracy),
        "weighted": {score: ((values * support).sum() / support.sum()).item() for score, values in scores.items()},
        "confusion": confusion.tolist(),
    }


def card(name: str, recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the model card of one training run as Markdown."""
    begin = "random" if recipe["weights"] == "random" else f"`{Path(recipe['weights']).name}`, with a new head"
    if recipe["freeze"]:
        begin += ", which alone was trained"
    lines = [
        _ABOUT.format(
            begin=begin,
            name=name,
            recipe=recipe,
            metrics=metrics,
            mean=_numbers(recipe["mean"]),
            std=_numbers(recipe["std"]),
        ),
        "| class | precision | recall | F1 | images |",
        "|---|---|---|---|---|",
        *(
            f"| {_cell(label)} | {_columns(row, _SCORES)} | {row['images']} |"
            for label, row in metrics["per_class"].items()
        ),
        *(
            f"| *{kind} average* | {_columns(metrics[kind], _SCORES)} | {metrics['images']['validation']} |"
            for kind in _AVERAGES
        ),
        "",
        "Confusion matrix, with a row per true class and a column per predicted class, in the order above:",
        "",
        "```",
        *(" ".join(f"{count:5d}" for count in row) for row in metrics["confusion"]),
        "```",
        "",
        "| epoch | training loss | validation loss | validation accuracy |",
        "|---|---|---|---|",
        *(f"| {row['epoch']} | {_columns(row, _HISTORY)} |" for row in metrics["history"]),
    ]
    if "test" in metrics:
        count, accuracy = metrics["images"]["test"], metrics["test"]["accuracy"]
        lines[0] += f"- Accuracy on the {count:,} test images, evaluated once: {accuracy:.4f}.\n"
    return "\n".join(lines) + "\n"


_ABOUT = """\
# {name}

`{recipe[arch]}` with {metrics[parameters]:,} parameters, trained on `{recipe[data]}` by `xaikit train`.
This card is written by the run.

- Input: {recipe[channels]} x {recipe[size]} x {recipe[size]}, pixels in [0, 1]; the network sees (x - {mean}) / {std}.
- Images: {metrics[images][training]:,} for training; {metrics[images][validation]:,} held out to select the epoch and
  to measure the figures below.
- Weights at the beginning: {begin}.
- Training: {recipe[epochs]} epochs in {metrics[seconds]:.0f} s on {metrics[device]} with torch {metrics[torch]};
  the weights are those of epoch {metrics[best_epoch]}.
- Accuracy: {metrics[accuracy]:.4f}.
"""
_SCORES = ("precision", "recall", "f1")
_AVERAGES = ("macro", "micro", "weighted")
_HISTORY = ("training_loss", "validation_loss", "validation_accuracy")


def _quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, 0.0)


def _columns(row: Mapping[str, float], keys: Sequence[str]) -> str:
    return " | ".join(f"{row[key]:.4f}" if isinstance(row[key], float) else str(row[key]) for key in keys)


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
