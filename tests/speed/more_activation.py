"""Ablation-CAM, Score-CAM, Eigen-CAM and FullGrad against the field, and bfloat16 against float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pytorch_grad_cam import AblationCAM, EigenCAM, FullGrad, ScoreCAM
from torchcam.methods import ScoreCAM as TorchcamScoreCAM

import xaikit
from tests.speed.contest import Claim, Contest, peak_bytes
from tests.speed.subjects import Subject, subject
from xaikit.core.context import Context

__all__ = ["contests"]

CHANNELS = 512


def contests() -> Iterator[Contest]:
    """Yield one contest a method."""
    for name in ("resnet18", "resnet50"):
        yield _ablation(name)
    yield _score()
    yield _eigen()
    yield _full_grad()
    if torch.cpu._is_avx512_bf16_supported():
        yield _bfloat16()


def _ablation(name: str) -> Contest:
    one = subject(name, "layer4", count=1)
    hers = one.peer()
    peer = AblationCAM(model=hers, target_layers=[hers.layer4])
    peer.batch_size = 32
    return Contest(
        f"ablation-cam {name}",
        "one image at 224x224, float32, layer4, class chosen by the tool",
        {
            "xaikit": lambda: xaikit.attribute(one.classifier, one.pixels, method="ablation-cam"),
            "pytorch-grad-cam": lambda: peer(input_tensor=one.inputs, targets=None),
        },
        [Claim("xaikit", "pytorch-grad-cam", at_least=300)],
        rounds=3 if name == "resnet18" else 1,
        warm=name == "resnet18",
    )


def _score() -> Contest:
    one = subject("squeezenet1_0", "features.12", count=1)
    hers, theirs = one.peer(), one.peer()
    peer = ScoreCAM(model=hers, target_layers=[hers.features[12]])
    peer.batch_size = 16
    torchcam = TorchcamScoreCAM(theirs, target_layer="features.12", batch_size=32)

    def ours() -> object:
        return xaikit.attribute(one.classifier, one.pixels, method="score-cam")

    def by_peer() -> object:
        return peer(input_tensor=one.inputs, targets=None)

    def by_torchcam() -> object:
        with torch.no_grad():
            scores = theirs(one.inputs)
        return torchcam(int(scores.argmax()), scores)

    needed = int(xaikit.attribute(one.classifier, one.pixels, method="score-cam").diagnostics["channels"][0])

    def bare() -> None:
        images = one.inputs.expand(16, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for start in range(0, needed + 1, 16):
                one.classifier.network(images[: min(16, needed + 1 - start)])

    peaks = {
        name: peak_bytes(work)
        for name, work in (("xaikit", ours), ("pytorch-grad-cam", by_peer), ("torchcam", by_torchcam))
    }
    return Contest(
        "score-cam squeezenet1_0",
        f"one image at 224x224, float32, features.12, {needed} of {CHANNELS} channels not constant",
        {"xaikit": ours, "bare forwards": bare, "pytorch-grad-cam": by_peer, "torchcam": by_torchcam},
        [
            Claim("xaikit", "bare forwards", at_most=1.10),
            Claim("xaikit", "pytorch-grad-cam", at_least=1.15),
            Claim("xaikit", "torchcam", at_least=1.4),
        ],
        rounds=5,
        facts={f"peak MB {name}": round(peak / 1e6) for name, peak in peaks.items()},
    )


def _eigen() -> Contest:
    one = subject("resnet50", "layer4")
    hers = one.peer()
    peer = EigenCAM(model=hers, target_layers=[hers.layer4])
    activations = torch.rand(8, 2048, 7, 7)
    method = xaikit.get_method("eigen-cam")(one.classifier)

    class Known:
        """A batch whose activations are there already, so that only the decomposition is timed."""

        def __len__(self) -> int:
            return len(activations)

        def activations(self, layer: object) -> torch.Tensor:
            return activations

    return Contest(
        "eigen-cam resnet50",
        "the decomposition alone, batch 8 of 2048 x 7 x 7",
        {
            "xaikit": lambda: method.compute(Known()),
            "pytorch-grad-cam": lambda: peer.get_cam_image(None, None, None, activations.numpy(), None, True),
        },
        [Claim("xaikit", "pytorch-grad-cam", at_least=20)],
        rounds=5,
    )


def _full_grad() -> Contest:
    one: Subject = subject("resnet50", "layer4", count=2)
    hers = one.peer()
    peer = FullGrad(model=hers, target_layers=[])
    return Contest(
        "full-grad resnet50",
        "batch 2 at 224x224, float32",
        {
            "xaikit": lambda: xaikit.attribute(one.classifier, one.pixels, method="full-grad"),
            "pytorch-grad-cam": lambda: peer(input_tensor=one.inputs, targets=None),
        },
        [Claim("xaikit", "pytorch-grad-cam", at_least=5)],
        rounds=3,
    )


def _bfloat16() -> Contest:
    one = subject("resnet50", "layer4")

    def run(precision: str) -> torch.Tensor:
        context = Context(precision=precision, chunk_size=8)  # type: ignore[arg-type]
        return xaikit.attribute(one.classifier, one.pixels, method="hires-cam", context=context).values

    ranks = [run(precision).flatten(1).argsort(1).argsort(1).double() for precision in ("float32", "bfloat16")]
    centred = [rank - rank.mean(1, keepdim=True) for rank in ranks]
    correlation = (centred[0] * centred[1]).sum(1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))
    return Contest(
        "bfloat16 resnet50",
        "hires-cam, batch 8 at 224x224, layer4",
        {"bfloat16": lambda: run("bfloat16"), "float32": lambda: run("float32")},
        [Claim("bfloat16", "float32", at_least=1.6)],
        facts={"rank correlation of maps, lowest of 8": round(float(correlation.min()), 4)},
    )
