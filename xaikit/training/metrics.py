"""Classification metrics of scikit-learn.

    precision_c = C[c, c] / sum_r C[r, c]      recall_c = C[c, c] / sum_p C[c, p]      F1 = 2 PR / (P + R)
    specificity_c = images of other classes that are not predicted as c / images of other classes
    roc_auc_c     = area under the ROC curve of class c against all others, by its probability

Shapes: confusion C (K, K), row = true class, column = predicted class. 0 / 0 counts as 0; specificity and ROC-AUC are
None where they need images that there are none of.
Averages: macro over the classes that have images (of recall: the balanced accuracy); weighted by the number of images
per class; micro over images (equal to the accuracy).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score
from torch import Tensor

SCORES = ("precision", "recall", "specificity", "f1", "roc_auc")


def classification_metrics(
    labels: Tensor, predictions: Tensor, probabilities: Tensor, names: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy, balanced accuracy, the scores of each class, their averages, and the confusion matrix.

    Args:
        labels: (N,) true classes, indices into `names`.
        predictions: (N,) predicted classes; `len(names)` stands for classes without a name here, which then have the
            last column of the confusion matrix.
        probabilities: (N, K) probability of each named class.
        names: names of the K classes.
    """
    true, predicted, chances = labels.numpy(), predictions.numpy(), probabilities.numpy()
    classes = np.arange(len(names))
    precision, recall, f1, images = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)
    others = len(true) - images
    false_positives = np.array([np.sum((predicted == index) & (true != index)) for index in classes])
    per_class: dict[str, dict[str, Any]] = {
        name: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "specificity": 1 - float(false_positives[index] / others[index]) if others[index] else None,
            "f1": float(f1[index]),
            "roc_auc": _roc_auc(true == index, chances[:, index]),
            "images": int(images[index]),
        }
        for index, name in enumerate(names)
    }
    present = [row for row in per_class.values() if row["images"]]
    accuracy = float(np.mean(true == predicted))
    macro = {score: _mean([(row[score], 1) for row in present]) for score in SCORES}
    columns = len(names) + int((predicted == len(names)).any())
    return {
        "accuracy": accuracy,
        "balanced_accuracy": macro["recall"],
        "roc_auc": macro["roc_auc"],
        "per_class": per_class,
        "macro": macro,
        "micro": dict.fromkeys(("precision", "recall", "f1"), accuracy),
        "weighted": {score: _mean([(row[score], row["images"]) for row in present]) for score in SCORES},
        "confusion": confusion_matrix(true, predicted, labels=range(len(names) + 1))[: len(names), :columns].tolist(),
    }


def sole_prediction(metrics: Mapping[str, Any]) -> str:
    """Return the name of the class that every image is predicted as, or "" if there are several."""
    names, predicted = [*metrics["per_class"], "another class"], np.sum(metrics["confusion"], 0).nonzero()[0]
    return names[predicted[0]] if len(predicted) == 1 else ""


def _roc_auc(is_class: Any, chances: Any) -> float | None:
    return float(roc_auc_score(is_class, chances)) if 0 < is_class.sum() < len(is_class) else None


def _mean(values: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if known else None
