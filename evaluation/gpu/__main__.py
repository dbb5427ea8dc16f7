"""Checks xaikit on a CUDA GPU in under ten minutes; prints tables and writes evaluation/results/gpu/*.json.

    python -m evaluation.gpu                            from the root of the repository
    python -m evaluation.gpu --device cpu --quick       tries the script itself, at tiny size

Values against the CPU come first, then synchronisations, then speed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from evaluation.gpu.speed import BARE, FULL, QUICK, Scale, cases, measured, subject, tf32
from evaluation.gpu.synchronisations import growth
from evaluation.gpu.values import compare, networks
from evaluation.speed.contest import OURS, Outcome
from evaluation.speed.record import RESULTS, write

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def main(words: list[str]) -> int:
    """Return 0 if the values agree and, unless it is a trial, every claim was met."""
    options = _options(words)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu: expected a CUDA GPU, got none; try the script with --device cpu --quick", file=sys.stderr)
        return 1
    begin, scale = time.perf_counter(), QUICK if options.quick else FULL
    command = " ".join(["python -m evaluation.gpu", *words])

    def record(name: str, outcomes: list[Outcome], **more: object) -> None:
        device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        write(options.output / f"{name}.json", command, outcomes, {"device": device, **more})

    comparisons = []
    with tf32(False):
        for network in networks(options.data, quick=options.quick):
            for comparison in compare(network, options.device):
                comparisons.append(comparison)
                print(comparison.line(), flush=True)
        record("values", [], values=[comparison.row() for comparison in comparisons])
        waits = growth([subject(scale, scale.deep, batch, options.device) for batch in scale.batches]).run()
    print(*waits.lines(), sep="\n", flush=True)
    record("synchronisations", [waits])
    outcomes, late = _speed(scale, options.device, begin + 60 * options.minutes)
    record("speed", outcomes, left_out=late)
    claims = [claim["met"] for outcome in [waits, *outcomes] for claim in outcome.claims]
    unequal = sum(not comparison.met for comparison in comparisons)
    print(f"values: {unequal} of {len(comparisons)} differ by more than their tolerance")
    print(f"claims: {claims.count(False)} of {len(claims)} not met; {time.perf_counter() - begin:.0f} s")
    return 1 if unequal or (False in claims and not options.quick) else 0


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu", help="folder of the JSON files")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real weights and photographs")
    parser.add_argument("--minutes", type=float, default=9.0, help="no contest starts after this time")
    return parser.parse_args(words)


def _speed(scale: Scale, device: str, deadline: float) -> tuple[list[Outcome], list[str]]:
    """Run the contests that start before the deadline, and print one line for each; return those left out as well."""
    outcomes, late = list[Outcome](), list[str]()
    print(f"{'case':24s} {'precision':9s} {'batch':>5s} {'xaikit ms':>10s} {'bare ms':>10s}  xaikit's time as a share")
    for case in cases(scale, device):
        if time.perf_counter() > deadline:
            late.append(f"{case.name} {case.precision} {case.batch}")
            continue
        outcomes.append(measured(case, scale))
        print(_line(outcomes[-1]), flush=True)
    if late:
        print(f"left out, the time is up: {', '.join(late)}")
    return outcomes, late


def _line(outcome: Outcome) -> str:
    """Return the outcome as one line of the table."""
    facts, seconds = outcome.facts, outcome.seconds
    begin = f"{facts['case']:24s} {facts['precision']:9s} {facts['batch']:5d}"
    if not seconds:
        return f"{begin}  {facts['failed']}  NOT MET"
    times = " ".join(f"{1000 * seconds[name]:10.2f}" for name in (OURS, BARE))
    notes = [f"{seconds[OURS] / other:.3f} of {name}" for name, other in seconds.items() if name != OURS]
    notes += [name for name in facts if name.endswith(" failed")]
    notes += [f"peak MB {facts['peak MB']}"] if facts["peak MB"] else []
    notes += ["NOT MET"] if any(not claim["met"] for claim in outcome.claims) else []
    return f"{begin} {times}  {', '.join(notes)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
