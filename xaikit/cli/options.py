"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A name, timm/NAME, transformers/NAME, FILE.py:NAME, or a folder of train."),
]
Weights = Annotated[
    str | None, typer.Option("--weights", help="A file (.pth, .safetensors) or the name of a torchvision weights enum.")
]
Layer = Annotated[str | None, typer.Option("--layer", help="Target layer; `xaikit layers MODEL` lists them.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file that registers methods; may repeat.")
]
