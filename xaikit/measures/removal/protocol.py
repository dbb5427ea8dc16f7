"""The keep protocol: every switch that changes what a curve of removal measures, in one frozen object.

The defaults are the paper's profile: eleven levels by area, soft masks, removed pixels in the data's mean colour,
stable ties, the softmax probability of the class. A curve carries its protocol; two curves compare only under one.

Source: Lee and Han (Libra-CAM), IJCAI 2022, and its released code; the other columns are those of the CAM, RISE and
    RemOve-And-Debias literature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.parameters import Count, NotNegative, Parameters
from xaikit.images.fills import Fill
from xaikit.model.target import Score

CurveFill = Fill | Literal["imputed"]
Order = Literal["lowest", "highest"]
Mask = Literal["soft", "binary"]
Threshold = Literal["area", "value", "value-of-max", "otsu"]
Ties = Literal["index", "random", "average"]


@dataclass(frozen=True, eq=False)
class KeepProtocol(Parameters):
    """How a keep curve masks and what it reads from the network.

    Args:
        levels: J; the thresholds are t = j / J for j = 0 to J.
        mask: "soft" keeps a pixel in proportion to its map value, "binary" keeps it whole.
        fill: what removed pixels become: "mean" (zero for the network), "black" (the product with the map is then
            taken in pixels), "white", "image-mean", "blur", "noise", or pixels as a tensor; "imputed" from the pixels
            that stay, with noise, as imputation.py says, for binary masks.
        threshold: "area" removes the floor(P j / J) lowest pixels; "value" those below t; "value-of-max" those below
            t times the map's maximum; "otsu" those below Otsu's threshold, the only level then. All but "area" remove
            another share of each map; the curve reports it.
        ties: pixels of one value go in row-major order ("index"), in an order drawn per image ("random"), or the
            confidence is the mean over `tie_orders` such orders wherever a cut falls inside a tie ("average").
        tie_orders: number of orders for ties="average".
        score: "probability" of the class, its "logit", its "log-odds", or the "sigmoid" of its logit.
        tie_tolerance: confidences closer than this count as equal in IR and DR.
        order: pixels of the "lowest" map values are removed first, or those of the "highest", by area and with binary
            masks; ties go in the same order either way.

    Raises:
        BadInput: a value that is none of these.
    """

    levels: Count = 10
    mask: Mask = "soft"
    fill: CurveFill | Tensor = "mean"
    threshold: Threshold = "area"
    ties: Ties = "index"
    tie_orders: Count = 5
    score: Score = "probability"
    tie_tolerance: NotNegative = 0.0
    order: Order = "lowest"

    def check(self) -> None:
        """Refuse switches that do not go together."""
        if self.imputed and self.mask != "binary":
            raise BadInput(f"fill: imputed expects binary masks, got {self.mask}; give mask='binary'")
        if self.order == "highest" and (self.mask, self.threshold) != ("binary", "area"):
            raise BadInput(
                f"order: highest expects binary masks by area, got {self.mask} masks by {self.threshold}; give both"
            )

    @classmethod
    def build(cls, **switches: Any) -> KeepProtocol:
        """Make the protocol from loose switches.

        Raises:
            BadInput: a switch that does not exist, with near names, or a value that does not fit.
        """
        cls.check_names(switches, "switch")
        return cls(**switches)

    @property
    def params(self) -> dict[str, Any]:
        """The switches as plain values; a fill of pixels by its shape and content."""
        switches = dict(super().params)
        if isinstance(self.fill, Tensor):
            content = hashlib.sha256(self.fill.detach().double().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
            switches["fill"] = f"tensor {tuple(self.fill.shape)} {content}"
        return switches

    @property
    def imputed(self) -> bool:
        """Removed pixels are imputed from those that stay."""
        return isinstance(self.fill, str) and self.fill == "imputed"

    @property
    def steps(self) -> tuple[Fraction, ...]:
        """The thresholds j / J as fractions; one 0 for Otsu's."""
        return tuple(Fraction(j, self.levels) for j in range(1 if self.threshold == "otsu" else self.levels + 1))

    @property
    def thresholds(self) -> Tensor:
        """(T,) float64 on the CPU: t = j / J; one NaN for Otsu's, which differs from map to map."""
        if self.threshold == "otsu":
            return torch.tensor([torch.nan], dtype=torch.float64, device="cpu")
        return torch.arange(self.levels + 1, dtype=torch.float64, device="cpu") / self.levels

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name the protocol."""
        return fingerprint(self.params)

    @property
    def family(self) -> str:
        """16 hexadecimal digits of all that decides the confidence at one threshold."""
        return fingerprint({k: v for k, v in self.params.items() if k not in ("levels", "tie_tolerance")})

    @property
    def orders(self) -> int:
        """Number of orders in which tied pixels are removed."""
        return self.tie_orders if self.ties == "average" else 1
