"""The keep protocol: every setting that changes a removal curve, in one frozen object.

The defaults are the paper's: eleven levels by area, soft masks, removed pixels in the data's mean colour, stable ties,
and the softmax probability of the class. Each curve holds its protocol; only curves of one protocol are comparable.

Source: Lee and Han (Libra-CAM), IJCAI 2022, and its released code; the other options follow the CAM, RISE and
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

_MOST_LEVELS = 100_000
CurveFill = Fill | Literal["imputed"]
Order = Literal["lowest", "highest"]
Mask = Literal["soft", "binary"]
Threshold = Literal["area", "value", "value-of-max", "otsu"]
Ties = Literal["index", "random", "average"]


@dataclass(frozen=True, eq=False)
class KeepProtocol(Parameters):
    """How a keep curve masks images and which confidence it reads from the network.

    Args:
        levels: J; the thresholds are t = j / J for j = 0 to J. More than one per pixel add nothing.
        mask: "soft" keeps a pixel in proportion to its map value, "binary" keeps it whole.
        fill: value of removed pixels: "mean" (zero in the network's coordinates), "black" (equal to the product of
            map and pixels), "white", "image-mean", "blur", "noise", or pixels as a tensor; "imputed" from the kept
            pixels, with noise (see imputation.py), for binary masks only.
        threshold: "area" removes the floor(P j / J) lowest pixels; "value" removes those below t; "value-of-max" those
            below t times the map's maximum; "otsu" those below Otsu's threshold, as the only level. Except for
            "area", the removed share differs from map to map; the curve reports it.
        ties: order of pixels with equal values: row-major ("index"), drawn per image ("random"), or the mean
            confidence over `tie_orders` drawn orders wherever a cut splits a tie ("average").
        tie_orders: number of orders for ties="average".
        score: "probability" of the class, its "logit", its "log-odds", or the "sigmoid" of its logit.
        tie_tolerance: confidences closer than this count as equal in IR and DR.
        order: whether pixels with the "lowest" or the "highest" map values are removed first; "highest" needs
            threshold="area" and mask="binary". Ties go in the same order either way.

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
        """Raise BadInput for settings that cannot be combined, and for more levels than any image has use for."""
        if self.levels > _MOST_LEVELS:
            raise BadInput(f"levels: expected at most {_MOST_LEVELS:,}, got {self.levels:,}; the default is 10")
        if self.imputed and self.mask != "binary":
            raise BadInput(f"fill: imputed expects binary masks, got {self.mask}; give mask='binary'")
        if self.order == "highest" and (self.mask, self.threshold) != ("binary", "area"):
            raise BadInput(
                f"order: highest expects binary masks by area, got {self.mask} masks by {self.threshold}; give both"
            )

    @classmethod
    def build(cls, **switches: Any) -> KeepProtocol:
        """Return the protocol with these settings.

        Raises:
            BadInput: an unknown setting (the message lists near names) or an invalid value.
        """
        cls.check_names(switches, "switch")
        return cls(**switches)

    @property
    def params(self) -> dict[str, Any]:
        """The settings as plain values; a tensor fill is given by its shape and hash."""
        params = dict(super().params)
        if isinstance(self.fill, Tensor):
            digest = hashlib.sha256(self.fill.detach().double().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
            params["fill"] = f"tensor {tuple(self.fill.shape)} {digest}"
        return params

    @property
    def imputed(self) -> bool:
        """Whether removed pixels are imputed from the kept ones."""
        return isinstance(self.fill, str) and self.fill == "imputed"

    @property
    def steps(self) -> tuple[Fraction, ...]:
        """The thresholds j / J as fractions; a single 0 for "otsu"."""
        return tuple(Fraction(j, self.levels) for j in range(1 if self.threshold == "otsu" else self.levels + 1))

    @property
    def thresholds(self) -> Tensor:
        """(T,) float64 on the CPU: t = j / J; a single NaN for "otsu", whose threshold differs from map to map."""
        if self.threshold == "otsu":
            return torch.tensor([torch.nan], dtype=torch.float64, device="cpu")
        return torch.arange(self.levels + 1, dtype=torch.float64, device="cpu") / self.levels

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that identify the protocol."""
        return fingerprint(self.params)

    @property
    def family(self) -> str:
        """16 hexadecimal digits of the settings that determine the confidence at one threshold."""
        return fingerprint({k: v for k, v in self.params.items() if k not in ("levels", "tie_tolerance")})

    @property
    def orders(self) -> int:
        """Number of orders in which tied pixels are removed."""
        return self.tie_orders if self.ties == "average" else 1
