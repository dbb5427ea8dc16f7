"""Every method and measure on the GPU against the CPU, in float32 without TF32.

    method     max over images of |a - b| / |b|             a, b the raw values of one image on GPU and CPU, 2-norms
    measure    max over images of |a - b| / max(1, |b|)     both measure the same maps

The photographs and real weights are used where they are, else the shipped texture-cnn on drawn images.

Two devices round differently. Most values follow smoothly, to about 1e-5. Methods of `SWITCHES` add gradients at many
points, where a rectifier or a maximum may switch; those of `SEARCHES` take later steps by the outcome of earlier ones;
`BINS` counts values. The tolerances are some ten times what two CPU implementations of convolution differ by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import VisionTransformer

import xaikit
from xaikit.extend import MEASURES, METHODS, Subject
from xaikit.images.synthetic import draw

__all__ = ["Comparison", "Network", "compare", "networks"]

SMOOTH = 1e-3
SWITCHES = 5e-2
SEARCHES = 0.5
BINS = 5e-2
TOLERANCES = {
    "blur-integrated-gradients": SWITCHES,
    "expected-gradients": SWITCHES,
    "integrated-gradients": SWITCHES,
    "rap": SWITCHES,
    "smooth-grad": SWITCHES,
    "smooth-grad-squared": SWITCHES,
    "var-grad": SWITCHES,
    "xrai": SWITCHES,
    "extremal-perturbation": SEARCHES,
    "guided-integrated-gradients": SEARCHES,
    "meaningful-perturbation": SEARCHES,
    "efficient-parameter-randomisation": BINS,
}
OWN = ("peak-memory",)
"""Measures of the device itself: their values only have to be there."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "libra-cam": {"references": 4},
    "is-cam": {"steps": 3},
    "opti-cam": {"steps": 20},
    "ss-cam": {"samples": 3},
    "integrated-gradients": {"steps": 8},
    "guided-integrated-gradients": {"steps": 2},
    "blur-integrated-gradients": {"steps": 8},
    "deep-lift-shap": {"references": 4},
    "expected-gradients": {"samples": 12, "references": 4},
    "smooth-grad": {"samples": 6},
    "smooth-grad-squared": {"samples": 6},
    "var-grad": {"samples": 6},
    "meaningful-perturbation": {"steps": 10},
    "extremal-perturbation": {"steps": 10},
    "xrai": {"steps": 8},
    "rise": {"samples": 100},
    "lime": {"samples": 100, "segments": 16},
    "kernel-shap": {"segments": 6},
    "partition-shap": {"samples": 60},
    "shapley-sampling": {"samples": 3},
    "sobol": {"samples": 4, "grid": 4},
    "hsic": {"samples": 60, "grid": 4},
    "sensitivity-n": {"sizes": (1, 10, 80)},
}
"""Parameters of methods and measures that are slow on a CPU."""


@dataclass(frozen=True)
class Network:
    """A network that can be loaded on any device, and images for it.

    Args:
        name: for the table.
        load: returns the classifier on a device.
        pixels: (N, C, H, W) in [0, 1], on the CPU.
        attends: whether it has attention, and serves for the methods of attention alone.
    """

    name: str
    load: Callable[[str], xaikit.Classifier]
    pixels: Tensor
    attends: bool = False


@dataclass(frozen=True)
class Comparison:
    """The difference between two devices for one method or measure."""

    network: str
    kind: str
    name: str
    difference: float
    tolerance: float
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance

    def line(self) -> str:
        """Return one line of a table."""
        judged = f"{self.difference:9.2e} <= {self.tolerance:5.0e}" if self.met else f"{self.difference:9.2e}  NOT MET"
        return f"{self.network:15s} {self.kind:8s} {self.name:34s} {judged}  {self.note}".rstrip()

    def row(self) -> dict[str, Any]:
        """Return the comparison ready for JSON, which has no infinity."""
        return asdict(self) | {"difference": self.difference if isfinite(self.difference) else None, "met": self.met}


def networks(data: Path, *, quick: bool) -> list[Network]:
    """Return the networks to compare on.

    Args:
        data: folder of the real weights and photographs.
        quick: take the shipped network even where there are real weights.
    """
    squeezenet, resnet = (data / "weights" / file for file in ("squeezenet1_0_imagenet.pth", "resnet20_cifar10.pth"))
    if quick or not (squeezenet.is_file() and resnet.is_file()):
        shipped = Network("texture-cnn", lambda device: xaikit.load("texture-cnn", device=device), draw(2, 1).pixels)
        return [shipped, _transformer()]
    photographs = sorted((data / "imagenet").glob("*.jpg"))[:2]
    small = sorted((data / "cifar10").glob("*/*.jpg"))[::150]
    return [_real("squeezenet1_0", squeezenet, photographs), _real("cifar-resnet20", resnet, small), _transformer()]


def _transformer() -> Network:
    """Return a small vision transformer with random weights, also in its head."""

    def load(device: str) -> xaikit.Classifier:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = VisionTransformer(64, 8, 4, 4, 64, 128, num_classes=10)
            torch.nn.init.normal_(network.heads.head.weight)
        return xaikit.Classifier(network.to(device), mean=0.5, std=0.25, size=64)

    return Network("transformer", load, draw(2, 1).pixels, attends=True)


def _real(name: str, weights: Path, pictures: list[Path]) -> Network:
    def load(device: str) -> xaikit.Classifier:
        return xaikit.load(name, weights=weights, device=device)

    return Network(name, load, load("cpu").read(pictures))


def compare(network: Network, device: str) -> Iterator[Comparison]:
    """Yield the comparison of every method and measure of xaikit."""
    classifiers = [network.load("cpu"), network.load(device)]
    with torch.no_grad():
        target = classifiers[0](network.pixels).argmax(1)
    for name in xaikit.methods():
        if (METHODS.get(name).family == "attention") != network.attends:
            continue
        results = [_explained(name, classifier, network, target) for classifier in classifiers]
        yield _compared(network.name, "method", name, results)
    subjects = [] if network.attends else _subjects(classifiers, network.pixels, target)
    for name in xaikit.measures() if subjects else ():
        yield _compared(network.name, "measure", name, [_measured(name, subject) for subject in subjects])


def _explained(name: str, classifier: xaikit.Classifier, network: Network, target: Tensor) -> Tensor | str:
    """Return the raw values (N, h, w) on the CPU, or why there are none."""

    def explain() -> Tensor:
        made = xaikit.attribute(classifier, network.pixels, target, name, **PARAMETERS.get(name, {}))
        return made.values.cpu().double()

    return _tried(explain)


def _subjects(classifiers: list[xaikit.Classifier], pixels: Tensor, target: Tensor) -> list[Subject]:
    """Return what is measured on each device: the maps of the first, and each device's own attribution."""
    masks = torch.zeros(len(pixels), *pixels.shape[2:], dtype=torch.bool)
    masks[:, pixels.shape[2] // 4 : -pixels.shape[2] // 4, pixels.shape[3] // 4 : -pixels.shape[3] // 4] = True
    subjects: list[Subject] = []
    for classifier in classifiers:
        method = METHODS.get("integrated-gradients").build(classifier, steps=8)
        made = method.attribute(pixels, target)
        maps = subjects[0].maps if subjects else made.heatmap()
        images, maps, labels, marks = (part.to(classifier.device) for part in (pixels, maps, target, masks))
        subjects.append(Subject(classifier, images, maps, labels, method, marks, made))
    return subjects


def _measured(name: str, subject: Subject) -> Tensor | str:
    """Return the value of each image, (N,), or why there is none."""
    return _tried(lambda: MEASURES.get(name)(**PARAMETERS.get(name, {})).compute(subject))


def _tried(work: Callable[[], Tensor]) -> Tensor | str:
    """Return the result of `work`, or why there is none in one line: xaikit refuses, or something fails."""
    try:
        return work()
    except xaikit.XaikitError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - the other methods and measures shall still run
        return f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _compared(network: str, kind: str, name: str, results: list[Tensor | str]) -> Comparison:
    cpu, gpu = results
    note = ""
    if isinstance(cpu, str) or isinstance(gpu, str):
        same = isinstance(cpu, str) and cpu == gpu and cpu.startswith("refused")
        difference = 0.0 if same else inf
        note = f"CPU {_brief(cpu)}; GPU {_brief(gpu)}"
    elif name in OWN:
        difference = 0.0 if bool((gpu > 0).all()) else inf
        note = f"CPU {cpu.tolist()}; GPU {gpu.tolist()}"
    else:
        difference = _difference(gpu.reshape(len(gpu), -1), cpu.reshape(len(cpu), -1), kind)
    return Comparison(network, kind, name, difference, TOLERANCES.get(name, SMOOTH), note)


def _brief(result: Tensor | str) -> str:
    return result if isinstance(result, str) else "gave values"


def _difference(values: Tensor, reference: Tensor, kind: str) -> float:
    """Return the largest difference over images; NaN is only allowed in both."""
    if values.shape != reference.shape or not torch.equal(values.isnan(), reference.isnan()):
        return inf
    values, reference = values.nan_to_num(), reference.nan_to_num()
    change, size = (values - reference).norm(dim=1), reference.norm(dim=1)
    scale = size.clamp(min=torch.finfo(size.dtype).tiny) if kind == "method" else size.clamp(min=1)
    return float((change / scale).max())
