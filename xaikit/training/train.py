"""Training: from a recipe to a folder that `xaikit.load` opens.

    recipe -> split -> epochs (checkpoint after each) -> best weights -> recipe.toml, weights.safetensors,
                                                                         metrics.json, card.md

The output folder:
    recipe.toml          every key of the recipe, from which `load` builds the network
    weights.safetensors  state dict of the epoch with the best macro F1 on the held-out images, then the lowest loss
    metrics.json         accuracy, precision, recall, F1, confusion matrix, loss curve, seconds, torch version; under
                         "test" the figures of the test split, which is evaluated once, at the end
    card.md              the same as a model card
    checkpoint.pt        only while unfinished: the same call resumes after the last complete epoch

Every random draw of epoch e comes from the stream (seed, e), so a run that was killed and resumed has the same result
as an uninterrupted one, bit by bit on a CPU with the same number of threads. Dropout and initial weights draw from
torch's global generator, which is seeded for them and restored afterwards.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from xaikit.foundation.code import network_code, versions
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, output_directory, write_json, write_text
from xaikit.foundation.identity import fingerprint, generator, stream_seed
from xaikit.foundation.lock import held
from xaikit.images.labelled import LabelledImages, Split
from xaikit.run.context import Progress
from xaikit.training.augmentation import flipped, masked
from xaikit.training.checkpoint import restore_checkpoint, save_checkpoint
from xaikit.training.metrics import card, classification_metrics, confusion_matrix
from xaikit.training.preparation import prepare
from xaikit.zoo.load import resolve_device
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture

_WARM_UP = 0.3
_SLICES = 20  # maximum number of loss curve points per epoch


def train(
    recipe: Recipe, output: str | Path, *, device: str = "auto", progress: Progress | None = None
) -> dict[str, Any]:
    """Train a network, write the folder `output`, and return the metrics.

    An unfinished run of the same recipe, data and versions in `output` is resumed; a finished one is overwritten.

    Args:
        recipe: settings of the run.
        output: folder for the network, its metrics and its card.
        device: name of the device, or "auto" for the first CUDA GPU, else the CPU.
        progress: called after every step; its unit names the epoch and the loss.

    Raises:
        BadInput: the data cannot be used, the folder cannot be written, is written by another run or holds another
            unfinished one, or the loss is no longer finite.
    """
    output = output_directory(output)
    recipe, split = prepare(recipe)
    resolved = resolve_device(device)
    with held(output, "train"), torch.random.fork_rng(devices=[resolved] if resolved.type == "cuda" else []):
        run = _Run(recipe, split, resolved, output / "checkpoint.pt")
        while run.state.epoch < recipe.epochs:
            run.train_epoch(progress or (lambda done, total, unit: None))
        return run.finish(output)


class _Run:
    def __init__(self, recipe: Recipe, split: Split, device: torch.device, checkpoint: Path) -> None:
        assert recipe.channels is not None
        assert recipe.size is not None
        self.recipe = recipe
        self.split = split
        self.device = device
        self.checkpoint = checkpoint
        self._seed_global("weights")
        network = architecture(recipe.arch).build(len(split.classes), recipe.channels, recipe.size)
        self.network = network.to(device)
        self.identity = fingerprint(
            [recipe.model_dump(), split.identity, versions(), network_code(network), device.type]
        )
        self.optimizer = _optimizer(recipe, self.network)
        self.mean = torch.tensor(recipe.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(recipe.std, device=device).view(-1, 1, 1)
        self.targets = _targets(len(split.classes)).to(device)
        balanced = recipe.class_weights == "balanced"
        weights = split.training.balanced_weights(len(split.classes)) if balanced else torch.ones(len(split.classes))
        self.weights = weights.to(device)
        self.state = restore_checkpoint(checkpoint, self.identity, self.network, self.optimizer, device)

    def train_epoch(self, progress: Progress) -> None:
        recipe, state, started = self.recipe, self.state, time.perf_counter()
        state.epoch += 1
        self._seed_global("dropout", str(state.epoch))
        stream = generator(recipe.seed, "epoch", str(state.epoch))
        order = torch.randperm(len(self.split.training), generator=stream).tolist()
        if len(order) % recipe.batch_size == 1:
            order.pop()  # BatchNorm needs at least two images
        steps = math.ceil(len(order) / recipe.batch_size)
        done, total = (state.epoch - 1) * steps, recipe.epochs * steps
        losses: list[float] = []
        self.network.train()
        for pixels, labels in self.split.training.batches(order, recipe.batch_size):
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _one_cycle(done + len(losses), total)
            losses.append(self._step(pixels, labels, stream))
            progress(done + len(losses), total, f"epoch {state.epoch}/{recipe.epochs}, loss {losses[-1]:.4f}")
        self._validate(losses, done)
        state.seconds += time.perf_counter() - started
        save_checkpoint(self.checkpoint, self.identity, self.network, self.optimizer, state)

    def finish(self, output: Path) -> dict[str, Any]:
        self.network.load_state_dict(self.state.best_weights)
        confusion, _ = self._evaluate(self.split.validation)
        metrics: dict[str, Any] = {
            **classification_metrics(confusion, self.split.classes),
            "images": {"training": len(self.split.training), "validation": len(self.split.validation)},
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "best_epoch": self.state.best_epoch,
            "history": self.state.history,
            "loss_curve": [{"step": step, "loss": loss} for step, loss in self.state.curve],
            "seconds": self.state.seconds,
            "device": str(self.device),
            "torch": torch.__version__,
        }
        if self.split.test is not None:
            metrics["images"]["test"] = len(self.split.test)
            metrics["test"] = classification_metrics(self._evaluate(self.split.test)[0], self.split.classes)
        weights = output / "weights.safetensors"
        weights.unlink(missing_ok=True)  # those of an earlier run never stand beside another recipe
        self.recipe.write(output / "recipe.toml")
        write_json(output / "metrics.json", metrics)
        write_text(output / "card.md", card(output.resolve().name, self.recipe.model_dump(), metrics))
        with atomic(weights) as temporary:
            temporary.write_bytes(save({name: value.contiguous() for name, value in self.state.best_weights.items()}))
        self.checkpoint.unlink(missing_ok=True)
        return metrics

    def _step(self, pixels: Tensor, labels: Tensor, stream: torch.Generator) -> float:
        inputs = self._normalized(pixels)
        if self.recipe.flip:
            inputs = flipped(inputs, self.recipe.flip, stream)
        if self.recipe.masks:
            inputs = masked(inputs, self.recipe.masks, stream)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.network(inputs), labels.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return self._finite(loss.item())

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.targets[labels], weight=self.weights)

    def _normalized(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.device) - self.mean) / self.std

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise BadInput(
                f"training: expected a finite loss, got {loss} in epoch {self.state.epoch}; "
                f"lower learning_rate (now {self.recipe.learning_rate:g}) and use another output folder"
            )
        return loss

    def _evaluate(self, images: LabelledImages) -> tuple[Tensor, float]:
        """Return the confusion matrix (K, K) and the mean loss."""
        self.network.eval()
        logits = []
        with torch.inference_mode():
            for pixels, _ in images.batches(range(len(images)), self.recipe.batch_size):
                logits.append(self.network(self._normalized(pixels)))
            outputs = torch.cat(logits)
            loss = self._loss(outputs, images.labels.to(self.device)).item()
        classes = len(self.split.classes)
        return confusion_matrix(images.labels, outputs.argmax(1).cpu(), classes), self._finite(loss)

    def _validate(self, losses: list[float], done: int) -> None:
        confusion, loss = self._evaluate(self.split.validation)
        metrics = classification_metrics(confusion, self.split.classes)
        state = self.state
        state.history.append(
            {
                "epoch": state.epoch,
                "training_loss": sum(losses) / len(losses),
                "validation_loss": loss,
                "validation_accuracy": metrics["accuracy"],
                "validation_macro_f1": metrics["macro"]["f1"],
            }
        )
        state.curve += _smoothed(losses, done)
        if (score := (metrics["macro"]["f1"], -loss)) > tuple(state.best):
            state.best, state.best_epoch = score, state.epoch
            state.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}

    def _seed_global(self, *parts: str) -> None:
        """Seed the global generators of CPU and device, which weights and dropout draw from."""
        seed = stream_seed(self.recipe.seed, *parts)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)


def _optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    weights, rate, decay = network.parameters(), recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(weights, rate, weight_decay=decay)


def _one_cycle(step: int, steps: int) -> float:
    """Return the learning rate as a share of its peak: a linear warm-up, then half a cosine down to zero."""
    warm_up = _WARM_UP * steps
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def _targets(classes: int) -> Tensor:
    """Return the target probabilities (classes + 1, classes); the last row, label -1, is for images of no class."""
    return torch.cat([torch.eye(classes), torch.full((1, classes), 1 / classes)])


def _smoothed(losses: list[float], done: int) -> list[tuple[int, float]]:
    """Return up to `_SLICES` means over consecutive steps, each with its last step."""
    slices = [values for values in torch.tensor(losses, dtype=torch.float64).tensor_split(_SLICES) if len(values)]
    ends = torch.tensor([len(values) for values in slices]).cumsum(0).tolist()
    return [(done + end, values.mean().item()) for end, values in zip(ends, slices, strict=True)]
