"""Training: from a recipe to a folder that `xaikit.load` opens.

    recipe -> split -> epochs (checkpoint after each) -> best weights -> recipe.toml, weights.safetensors,
                                                                         metrics.json, card.md

The output folder:
    recipe.toml          every key of the recipe, from which `load` builds the network
    weights.safetensors  state dict of the epoch with the best macro F1 on the held-out images, then the lowest loss
    metrics.json         accuracy, scores of each class, confusion matrix (metrics.py), loss curve, seconds, torch
                         version; under "test" the figures of the test split, which is evaluated once, at the end
    card.md              the same as a model card, with learning_curves.png and confusion.png
    checkpoint.pt        only while unfinished: the same call resumes after the last complete epoch (resuming.py)

Every random draw of epoch e comes from the stream (seed, e), so a run that was killed and resumed has the same result
as an uninterrupted one, bit by bit on a CPU with the same number of threads. Dropout and initial weights draw from
torch's global generator, which is seeded for them and restored afterwards. On CUDA, steps run under torch's autocast to
bfloat16; weights, gradients and validation stay in float32.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from xaikit.foundation.code import network_code, versions
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.foundation.files import atomic, output_directory, write_json
from xaikit.foundation.identity import fingerprint, generator, stream_seed
from xaikit.foundation.lock import held
from xaikit.images.labelled import LabelledImages
from xaikit.run.context import Progress
from xaikit.training.augmentation import flipped, masked, varied
from xaikit.training.card import write_training_card
from xaikit.training.checkpoint import Checkpoint, Plan, TrainingState, save_checkpoint
from xaikit.training.metrics import classification_metrics
from xaikit.training.preparation import Prepared, prepare
from xaikit.training.resuming import CHECKPOINT, METRICS, RECIPE, WEIGHTS, Finished, start
from xaikit.zoo.beginning import Beginning, begin_with, head_keys
from xaikit.zoo.load import resolve_device
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture

Report = Callable[[Mapping[str, float]], None]
"""Called with the row of an epoch: epoch, training_loss, validation_loss, validation_accuracy, validation_macro_f1."""

_WARM_UP = 0.3
_HEAD = 10.0  # learning rate of a new head on trained weights, relative to that of these
_SLICES = 20  # maximum number of loss curve points per epoch


def train(
    recipe: Recipe | str | Path | None = None,
    output: str | Path | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
    report: Report | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a network, write the folder `output`, and return the metrics.

    An unfinished run of the same recipe, data and versions in `output` is resumed. A finished one is left as it is,
    with a warning, or extended where `epochs` is larger.

    Args:
        recipe: settings of the run, or their file; None takes them from `settings` alone.
        output: folder for the network, its metrics and its card; None is the folder of an unchanged recipe's file.
        device: name of the device, or "auto" for the first CUDA GPU, else the CPU.
        overwrite: whether a run in `output` that would have to be lost is replaced.
        progress: called after every step; its unit names the epoch and the loss.
        report: called after every epoch, once it is saved, with its row of the history.
        **settings: keys of the recipe, such as data="photos", arch="resnet18", epochs=10, in place of its own.

    Raises:
        BadInput: the data cannot be used, the folder cannot be written, is written by another run or holds another one,
            or the loss is no longer finite.
        KeyboardInterrupt: the run was interrupted; the message names the last epoch that is saved.
    """
    output = output_directory(_folder(recipe, output, settings))
    prepared = prepare(_recipe(recipe, settings))
    filled = prepared.recipe
    resolved = resolve_device(device)
    with held(output, "train"), torch.random.fork_rng(devices=[resolved] if resolved.type == "cuda" else []):
        run = _Run(prepared, resolved, output)
        begin = start(run.plan, output, resolved, overwrite)
        if isinstance(begin, Finished):
            warnings.warn(
                f"{output}: this run of {filled.epochs} epochs is finished and left as it is; more epochs extend it, "
                "--overwrite trains it anew",
                XaikitWarning,
                stacklevel=2,
            )
            return begin.metrics
        if isinstance(begin, Checkpoint):
            run.resume(begin)
        try:
            while run.state.epoch < filled.epochs:
                run.train_epoch(progress or (lambda done, total, unit: None))
                if report is not None:
                    report(run.state.history[-1])
            return run.finish()
        except KeyboardInterrupt as error:
            message = f"epoch {run.saved} saved; the same command goes on" if run.saved else "no epoch is saved yet"
            raise KeyboardInterrupt(message) from error


def _recipe(recipe: Recipe | str | Path | None, settings: dict[str, Any]) -> Recipe:
    if isinstance(recipe, str | Path):
        recipe = Recipe.read(recipe)
    return Recipe.of(**({} if recipe is None else recipe.model_dump()) | settings)


def _folder(recipe: Recipe | str | Path | None, output: str | Path | None, settings: dict[str, Any]) -> str | Path:
    if output is not None:
        return output
    if isinstance(recipe, str | Path) and not settings:
        return Path(recipe).parent
    raise BadInput("train: expected a folder to write, got none; add -o DIR")


class _Run:
    def __init__(self, prepared: Prepared, device: torch.device, output: Path) -> None:
        recipe, split, begin = prepared
        assert recipe.channels is not None
        assert recipe.size is not None
        self.recipe = recipe
        self.split = split
        self.device = device
        self.on_cuda = device.type == "cuda" and torch.cuda.is_available()
        self.output = output
        self._seed_global("weights")
        network, self.head = _network(recipe, len(split.classes), begin)
        self.network = network.to(device)
        settings = recipe.model_dump(exclude={"epochs", "restarts"})
        state = None if begin is None else dict(begin.state)
        run = fingerprint([settings, state, split.identity, versions(), network_code(network), device.type])
        self.plan = Plan(run, recipe.epochs, recipe.restarts)
        self.optimizer = _optimizer(recipe, self.network, self.head)
        self.mean = torch.tensor(recipe.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(recipe.std, device=device).view(-1, 1, 1)
        self.targets = _targets(len(split.classes)).to(device)
        balanced = recipe.class_weights == "balanced"
        weights = split.training.balanced_weights(len(split.classes)) if balanced else torch.ones(len(split.classes))
        self.weights = weights.to(device)
        self.state = TrainingState()
        self.saved = 0

    def resume(self, checkpoint: Checkpoint) -> None:
        self.plan, self.state, self.saved = checkpoint.plan, checkpoint.state, checkpoint.state.epoch
        self.recipe = self.recipe.model_copy(update={"restarts": self.plan.restarts})
        self.network.load_state_dict(checkpoint.network)
        if self.state.epoch not in self.plan.restarts:
            self.optimizer.load_state_dict(checkpoint.optimizer)

    def train_epoch(self, progress: Progress) -> None:
        recipe, state, started = self.recipe, self.state, time.perf_counter()
        if state.epoch in recipe.restarts:
            self.network.load_state_dict(state.best_weights)
            self.optimizer = _optimizer(recipe, self.network, self.head)
        begin, end = _cycle(state.epoch, recipe)
        state.epoch += 1
        self._seed_global("dropout", str(state.epoch))
        stream = generator(recipe.seed, "epoch", str(state.epoch))
        order = torch.randperm(len(self.split.training), generator=stream).tolist()
        if len(order) % recipe.batch_size == 1:
            order.pop()  # BatchNorm needs at least two images
        steps = math.ceil(len(order) / recipe.batch_size)
        done, total = (state.epoch - 1) * steps, recipe.epochs * steps
        losses: list[float] = []
        self._set_training()
        for pixels, labels in self.split.training.batches(order, recipe.batch_size):
            rate = recipe.learning_rate * _one_cycle(done - begin * steps + len(losses), (end - begin) * steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            losses.append(self._step(pixels, labels, stream))
            progress(done + len(losses), total, f"epoch {state.epoch}/{recipe.epochs}, loss {losses[-1]:.4f}")
        self._validate(losses, done)
        state.seconds += time.perf_counter() - started
        save_checkpoint(self.output / CHECKPOINT, self.plan, self.network, self.optimizer, state)
        self.saved = state.epoch

    def finish(self) -> dict[str, Any]:
        self.network.load_state_dict(self.state.best_weights)
        metrics: dict[str, Any] = {
            **self._evaluate(self.split.validation)[0],
            "images": {"training": len(self.split.training), "validation": len(self.split.validation)},
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "best_epoch": self.state.best_epoch,
            "history": self.state.history,
            "loss_curve": [{"step": step, "loss": loss} for step, loss in self.state.curve],
            "seconds": self.state.seconds,
            "device": str(self.device),
            "torch": torch.__version__,
            "run": self.plan.run,
        }
        if self.split.test is not None:
            metrics["images"]["test"] = len(self.split.test)
            metrics["test"] = self._evaluate(self.split.test)[0]
        output, weights = self.output, self.output / WEIGHTS
        weights.unlink(missing_ok=True)  # those of an earlier run never stand beside another recipe
        self.recipe.write(output / RECIPE)
        write_json(output / METRICS, metrics)
        write_training_card(output, self.recipe.model_dump(), metrics)
        with atomic(weights) as temporary:
            temporary.write_bytes(save({name: value.contiguous() for name, value in self.state.best_weights.items()}))
        (output / CHECKPOINT).unlink(missing_ok=True)
        return metrics

    def _set_training(self) -> None:
        """Set training mode, except for the BatchNorm of a frozen network."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and self.recipe.freeze:
                module.eval()

    def _step(self, pixels: Tensor, labels: Tensor, stream: torch.Generator) -> float:
        recipe = self.recipe
        pixels = varied(pixels, recipe.crop, recipe.rotate, recipe.colour, recipe.mean or ())
        inputs = self._normalized(pixels)
        if recipe.flip:
            inputs = flipped(inputs, recipe.flip, stream)
        if recipe.masks:
            inputs = masked(inputs, recipe.masks, stream)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16) if self.on_cuda else nullcontext():
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

    def _evaluate(self, images: LabelledImages) -> tuple[dict[str, Any], float]:
        """Return the metrics and the mean loss."""
        self.network.eval()
        logits = []
        with torch.inference_mode():
            for pixels, _ in images.batches(range(len(images)), self.recipe.batch_size):
                logits.append(self.network(self._normalized(pixels)))
            outputs = torch.cat(logits)
            loss = self._loss(outputs, images.labels.to(self.device)).item()
        outputs = outputs.double().cpu()
        metrics = classification_metrics(images.labels, outputs.argmax(1), outputs.softmax(1), self.split.classes)
        return metrics, self._finite(loss)

    def _validate(self, losses: list[float], done: int) -> None:
        metrics, loss = self._evaluate(self.split.validation)
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


def _network(recipe: Recipe, classes: int, begin: Beginning | None) -> tuple[nn.Module, frozenset[str]]:
    """Return the network with the weights that the training begins with, and the names of its new head."""
    assert recipe.channels is not None
    assert recipe.size is not None
    build, channels, size = architecture(recipe.arch).build, recipe.channels, recipe.size
    network = build(classes, channels, size)
    if begin is None:
        return network, frozenset()
    head = head_keys(lambda classes: build(classes, channels, size))
    begin_with(network, begin, head, recipe.arch)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in head or not recipe.freeze)
    return network, head


def _optimizer(recipe: Recipe, network: nn.Module, head: frozenset[str]) -> torch.optim.Optimizer:
    """Return the optimiser; the learning rate of each group is set at every step, by its factor."""
    named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    new = [weight for name, weight in named.items() if name in head]
    old = [weight for name, weight in named.items() if name not in head]
    groups = [{"params": old, "factor": 1.0}, {"params": new, "factor": _HEAD}]
    weights, rate, decay = [group for group in groups if group["params"]], recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(weights, rate, weight_decay=decay)


def _cycle(epoch: int, recipe: Recipe) -> tuple[int, int]:
    """Return after which epochs the rise and fall of the learning rate, which `epoch` is in, begins and ends."""
    ends = [0, *recipe.restarts, recipe.epochs]
    return next((begin, end) for begin, end in pairwise(ends) if begin <= epoch < end)


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
