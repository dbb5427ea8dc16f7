"""The script that checks a GPU, tried on the CPU at tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import xaikit
from evaluation.gpu.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def test_it_refuses_in_one_line_without_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--output", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "expected a CUDA GPU, got none" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.backends
def test_it_runs_at_tiny_size_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evaluation.gpu", "--device", "cpu", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "0"},  # shap's loops are compiled, as users run them
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    written = {
        name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("values", "synchronisations", "speed")
    }
    values = written["values"]["values"]
    assert {row["name"] for row in values if row["kind"] == "method"} == set(xaikit.methods())
    assert {row["name"] for row in values if row["kind"] == "measure"} == set(xaikit.measures())
    assert all(row["met"] for row in values)
    assert not [row["note"] for row in values if "failed" in row["note"] or "refused" in row["note"]]
    contests = [contest["facts"] for contest in written["speed"]["contests"]]
    assert {contest["precision"] for contest in contests} == {"tf32", "bfloat16"}
    assert len({contest["case"] for contest in contests}) == 8
    assert len(contests) == (8 + 7) * 2
    assert not [contest["failed"] for contest in contests if "failed" in contest]
    assert written["speed"]["left_out"] == []
    (waits,) = written["synchronisations"]["contests"]
    assert set(waits["facts"]) == {"batch 1", "batch 2"}
