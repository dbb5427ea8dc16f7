"""The card of a run: its figures as Markdown, with drawings beside it.

card.md    learning_curves.png    confusion.png
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from xaikit.foundation.files import atomic, write_text
from xaikit.images.drawing import Sheet, families, legible
from xaikit.training.metrics import SCORES, sole_prediction

_MOST = 30  # classes whose names and counts are drawn
_HISTORY = ("training_loss", "validation_loss", "validation_accuracy", "validation_macro_f1")


def write_training_card(output: Path, recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write the card of a training, with its learning curves and confusion matrix.

    Args:
        output: folder of the run.
        recipe: keys of its recipe.
        metrics: its metrics; under "test" those of the test split, if there is one.
    """
    begin = "random" if recipe["weights"] == "random" else f"`{Path(recipe['weights']).name}`, with a new head"
    if recipe["freeze"]:
        begin += ", which alone was trained"
    mean, std = _numbers(recipe["mean"]), _numbers(recipe["std"])
    about = _ABOUT.format(name=output.resolve().name, recipe=recipe, metrics=metrics, begin=begin, mean=mean, std=std)
    test = metrics.get("test")
    lines = [about, *figures("The images held out", metrics)]
    if test is not None:
        lines += figures("The test images, evaluated once", test)
    lines += [
        "![Learning curves](learning_curves.png)",
        "",
        "![Confusion matrix](confusion.png)",
        "",
        "| epoch | training loss | validation loss | validation accuracy | validation macro F1 |",
        "|---|---|---|---|---|",
        *(f"| {row['epoch']} | {_columns(row, _HISTORY)} |" for row in metrics["history"]),
    ]
    draw(output, test or metrics, metrics["history"])
    write_text(output / "card.md", "\n".join(lines) + "\n")


def write_evaluation_card(output: Path, title: str, metrics: Mapping[str, Any]) -> None:
    """Write the card of an evaluation, with its confusion matrix."""
    draw(output, metrics)
    lines = [f"# {title}", "", *figures("The figures", metrics), "![Confusion matrix](confusion.png)"]
    write_text(output / "card.md", "\n".join(lines) + "\n")


def draw(output: Path, metrics: Mapping[str, Any], history: Sequence[Mapping[str, float]] = ()) -> None:
    """Write the confusion matrix and, with a history, the learning curves as pictures."""
    if history:
        _save(_learning_curves(history), output / "learning_curves.png")
    _save(_confusion(metrics), output / "confusion.png")


def figures(title: str, metrics: Mapping[str, Any]) -> list[str]:
    """Return the lines of one section: accuracies, scores of each class, averages, and the confusion matrix."""
    return [
        f"## {title}",
        "",
        _ACCURACIES.format(
            metrics["accuracy"], _number(metrics["balanced_accuracy"]), _number(metrics["roc_auc"]) or "unknown"
        ),
        "",
        *([f"Every image is predicted as {_cell(sole)}.", ""] if (sole := sole_prediction(metrics)) else []),
        "| class | precision | recall (sensitivity) | specificity | F1 | ROC-AUC | images |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {_cell(label)} | {_columns(row, SCORES)} | {row['images']} |"
            for label, row in metrics["per_class"].items()
        ),
        *(f"| *{kind} average* | {_columns(metrics[kind], SCORES)} | |" for kind in ("macro", "weighted")),
        "",
        _MATRIX,
        "",
        "```",
        *(" ".join(f"{count:5d}" for count in row) for row in metrics["confusion"]),
        "```",
        "",
    ]


_ACCURACIES = "Accuracy {:.4f}, balanced accuracy {}, ROC-AUC {}."
_MATRIX = """\
Confusion matrix, with a row per true class and a column per predicted class, in the order above; one column more counts
other classes:"""
_ABOUT = """\
# {name}

`{recipe[arch]}` with {metrics[parameters]:,} parameters, trained on `{recipe[data]}` by `xaikit train`.
This card is written by the run.

- Input: {recipe[channels]} x {recipe[size]} x {recipe[size]}, pixels in [0, 1]; the network sees (x - {mean}) / {std}.
- Images: {metrics[images][training]:,} for training; {metrics[images][validation]:,} held out to select the epoch.
- Weights at the beginning: {begin}.
- Training: {recipe[epochs]} epochs in {metrics[seconds]:.0f} s on {metrics[device]} with torch {metrics[torch]};
  the weights are those of epoch {metrics[best_epoch]}.
- Accuracy: {metrics[accuracy]:.4f}.
"""


def _learning_curves(history: Sequence[Mapping[str, float]]) -> Sheet:
    figure = Sheet(900, 360)
    epochs = [row["epoch"] for row in history]
    drawn = {"Loss": ("training_loss", "validation_loss"), "Validation": ("validation_accuracy", "validation_macro_f1")}
    for index, (title, keys) in enumerate(drawn.items()):
        axes = figure.add_axes((0.07 + 0.49 * index, 0.15, 0.42, 0.74))
        for key in keys:
            axes.plot(epochs, [row[key] for row in history], marker="o", markersize=3, label=key.replace("_", " "))
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def _confusion(metrics: Mapping[str, Any]) -> Sheet:
    counts, names = metrics["confusion"], [legible(name) for name in metrics["per_class"]]
    columns = [*names, "other"][: len(counts[0])]
    side = 300 + 34 * min(len(names), _MOST)
    figure = Sheet(side, side)
    axes = figure.add_axes((0.3, 0.05, 0.65, 0.65))
    shares = [[count / (sum(row) or 1) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="predicted", ylabel="true", xticks=[], yticks=[])
    if len(names) <= _MOST:
        style: dict[str, Any] = {"family": families(), "parse_math": False}
        axes.set_xticks(range(len(columns)), columns, rotation=90, **style)
        axes.set_yticks(range(len(names)), names, **style)
        for y, row in enumerate(counts):
            for x, count in enumerate(row):
                axes.text(x, y, str(count), ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")
    return figure


def _save(figure: Sheet, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")


def _columns(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return " | ".join(_number(row[key]) for key in keys)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
