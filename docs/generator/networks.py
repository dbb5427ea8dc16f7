"""Networks of other packages with their default target layers, from the tables that the tests run."""

from __future__ import annotations

from collections.abc import Mapping

from docs.generator.entries import table
from tests.zoo.networks import METHODS, TIMM, TORCHVISION, TRANSFORMERS


def networks(_: str) -> str:
    """Return a folded table for each package; networks that share their default layer share a row."""
    timm = {name: layer for name, (_, _, layer, _) in TIMM.items()}
    transformers = {f"{name}ForImageClassification{entry[0]}": entry[2] for name, entry in TRANSFORMERS.items()}
    ran = ", ".join(METHODS)
    return "\n".join(
        [
            *_folded("torchvision", "the layer is found", TORCHVISION),
            *_folded("timm", f"the layer is found, and {ran} run", timm),
            *_folded("transformers", "the map equals Grad-CAM by hand", transformers),
        ]
    )


def _folded(package: str, tested: str, layers: Mapping[str, str | None]) -> list[str]:
    named: dict[str, list[str]] = {}
    for name, layer in layers.items():
        named.setdefault(f"`{layer}`" if layer else "none: you are asked", []).append(name)
    rows = [[", ".join(names), layer] for layer, names in named.items()]
    head = f'??? note "{package}: {len(layers)} networks; in the tests {tested}"'
    return [head, "", *(f"    {line}" for line in table(("network", "default layer"), "ll", rows)), ""]
