"""Times of xaikit on the GPU, against the bare passes it needs and other packages, with peak memory.

The contests are those of evaluation/speed in three precisions and several batches, and a benchmark from pictures to
rows. A peer that fails in a precision is left out with its reason.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.transforms.functional import to_pil_image

from evaluation.speed.contest import OURS, Contest, Outcome, Work
from evaluation.speed.grad_cam import grad_cam, six_methods
from evaluation.speed.integrated_gradients import integrated_gradients
from evaluation.speed.keep_curves import keep_curves
from evaluation.speed.lrp import lrp
from evaluation.speed.rise import rise
from evaluation.speed.score_cam import score_cam
from evaluation.speed.subjects import Subject, of_network
from xaikit.benchmark.run import run
from xaikit.benchmark.suite import Suite

__all__ = ["BARE", "FULL", "QUICK", "Case", "Scale", "cases", "measured", "subject", "tf32"]

BARE = "bare passes"


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        side: of the images.
        batches: number of images.
        precisions: of the networks; "tf32" is float32 with TF32 allowed, "bfloat16" is autocast.
        deep: network of the methods with few passes.
        light: network of the methods with many passes.
        plain: network of LRP, without branches that captum does not know.
        steps: of integrated gradients.
        masks: of RISE.
        pictures: of the benchmark.
        levels: of its curves.
        rounds: of each contest.
        seconds: after which no further round of a contest starts.
        most_with_peers: largest batch with which other packages take part in Score-CAM.
    """

    side: int
    batches: tuple[int, ...]
    precisions: tuple[str, ...]
    deep: str
    light: str
    plain: str
    steps: int
    masks: int
    pictures: int
    levels: int
    rounds: int
    seconds: float
    most_with_peers: int


FULL = Scale(
    side=224,
    batches=(1, 8, 64),
    precisions=("float32", "tf32", "bfloat16"),
    deep="resnet50",
    light="squeezenet1_0",
    plain="vgg16",
    steps=20,
    masks=200,
    pictures=128,
    levels=10,
    rounds=7,
    seconds=5.0,
    most_with_peers=8,
)
QUICK = Scale(
    side=48,
    batches=(1, 2),
    precisions=("tf32", "bfloat16"),
    deep="resnet18",
    light="squeezenet1_1",
    plain="squeezenet1_1",
    steps=2,
    masks=4,
    pictures=2,
    levels=2,
    rounds=1,
    seconds=0.0,
    most_with_peers=1,
)


@dataclass(frozen=True)
class Case:
    """One contest to run: a method in one precision on one batch."""

    name: str
    precision: str
    batch: int
    contest: Callable[[], Contest]


def cases(scale: Scale, device: str) -> Iterator[Case]:
    """Yield all contests, the precisions one after another; the benchmark has no bfloat16."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder), scale.pictures)
        yield from _cases(scale, device, pictures)


def _cases(scale: Scale, device: str, pictures: Path) -> Iterator[Case]:
    makers: dict[str, tuple[str, Callable[[Subject], Contest]]] = {
        "grad-cam": (scale.deep, grad_cam),
        "six activation methods": (scale.deep, six_methods),
        "integrated-gradients": (scale.deep, partial(integrated_gradients, steps=scale.steps)),
        "lrp": (scale.plain, lrp),
        "score-cam": (scale.light, partial(_score_cam, scale)),
        "rise": (scale.light, partial(rise, samples=scale.masks)),
        "keep curves": (scale.light, keep_curves),
        "benchmark": (scale.light, partial(_benchmark, pictures, scale.levels)),
    }
    for precision in scale.precisions:
        for name, (network, make) in makers.items():
            if (name, precision) == ("benchmark", "bfloat16"):
                continue
            for batch in scale.batches:
                build = partial(_contest, make, scale, network, batch, device, precision)
                yield Case(name, precision, batch, build)


def _contest(
    make: Callable[[Subject], Contest], scale: Scale, network: str, batch: int, device: str, precision: str
) -> Contest:
    return make(subject(scale, network, batch, device, precision))


def subject(scale: Scale, network: str, batch: int, device: str, precision: str = "float32") -> Subject:
    """Return a network with random weights and a batch; TF32 is a switch of the process, see `tf32`."""
    kind = "bfloat16" if precision == "bfloat16" else "float32"
    return of_network(network, _network(network), batch, scale.side, kind, device)


@cache
def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in the block, and put back what was set before."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def measured(case: Case, scale: Scale) -> Outcome:
    """Run one contest in its precision; its facts are the peak memory and the peers that failed.

    A contest that raises an error is an outcome too, with a claim that is not met.
    """
    facts = {"case": case.name, "precision": case.precision, "batch": case.batch}
    gc.collect()  # the copies of the contest before hold each other by their hooks
    try:
        with tf32(case.precision == "tf32"):
            outcome = _run(case.contest(), scale)
    except Exception as error:  # noqa: BLE001 - the other contests shall still run
        reason = _brief(error)
        outcome = Outcome(case.name, "failed", {}, [{"name": OURS, "met": False, "text": reason}], {"failed": reason})
    outcome.facts = facts | outcome.facts
    return outcome


def _run(contest: Contest, scale: Scale) -> Outcome:
    contest.rounds, contest.seconds = scale.rounds, scale.seconds
    for name in [name for name in contest.contenders if name not in (OURS, BARE)]:
        try:
            contest.contenders[name]()
        except Exception as error:  # noqa: BLE001 - a fault of another package must not end the contest
            del contest.contenders[name]
            contest.facts[f"{name} failed"] = _brief(error)
    peaks: dict[str, int] = {}
    contest.contenders = {name: _watched(name, work, peaks) for name, work in contest.contenders.items()}
    outcome = contest.run()
    outcome.facts["peak MB"] = peaks
    return outcome


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"


def _watched(name: str, work: Work, peaks: dict[str, int]) -> Work:
    """Return the same work, which also keeps its peak memory in MB where there is a GPU."""

    def watched() -> object:
        if not torch.cuda.is_available():
            return work()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = work()
        peaks[name] = max(peaks.get(name, 0), round((torch.cuda.max_memory_allocated() - before) / 1e6))
        return result

    return watched


def _score_cam(scale: Scale, subject: Subject) -> Contest:
    contest = score_cam(subject)
    if len(subject.pixels) > scale.most_with_peers:
        contest.contenders = {name: contest.contenders[name] for name in (OURS, BARE)}
    return contest


def _pictures(folder: Path, count: int) -> Path:
    """Write pictures for the benchmark into a folder, and return it."""
    for number in range(count):
        drawn = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(number))
        to_pil_image(drawn).resize((256, 256)).save(folder / f"{number}.jpg")
    return folder


def _benchmark(pictures: Path, levels: int, subject: Subject) -> Contest:
    """Return the contest of a whole benchmark, from pictures on disk to rows, in batches of the subject's size.

    It also loads the network and reads the pictures, so it claims nothing; its bare passes are as many forwards.
    """
    suite = Suite.of(
        models=[{"name": subject.name, "weights": "random"}],
        data={"kind": "images", "path": pictures},
        methods=["grad-cam", "layer-cam", "eigen-cam"],
        controls=[],
        measures=["api", "apd", "ir", "dr"],
        levels=levels,
        batch=len(subject.pixels),
    )

    def ours() -> None:
        with tempfile.TemporaryDirectory() as output:
            outcome = run(suite, output, device=subject.pixels.device.type)
        assert not outcome.failed, outcome.failed[0]

    total = _images_through(type(subject.original), ours)
    count = len(list(pictures.iterdir()))
    about = f"{count} pictures, 3 methods, 4 measures, {total} forwards"
    return subject.contest("benchmark", about, ours, lambda: subject.forwards(total), {}, claims=[])


def _images_through(kind: type[nn.Module], work: Work) -> int:
    """Return how many images `work` sends through networks of one class."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, kind):
            counts.append(len(inputs[0]))

    with nn.modules.module.register_module_forward_pre_hook(count):
        work()
    return sum(counts)
