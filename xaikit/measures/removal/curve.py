"""The keep curve: confidence in the class while the lowest pixels of the map are removed.

    API_j, APD_j, IR_j, DR_j                  means over the images, see api_apd_ir_dr.py
    TR_j  = 1 - IR_j - DR_j                   rate of ties
    KeepAUC_i = trapezoid of o_i over t       higher is better, [0, 1]

y is the confidence on the unchanged image, o on the masked one. Under a protocol that removes the highest pixels first
this is the deletion curve (MoRF), read the same way. The raw y and o are kept, so that every aggregate can be
recomputed. Images whose map is not finite have NaN in `o` and are left out of all means; `excluded` counts them.

Shapes: thresholds (T,); y (N,); o, gains, drops, ups, downs and tied (N, T); all float64 on the CPU.
Source: Lee and Han (Libra-CAM), IJCAI 2022. At t = 0 with soft masks APD and IR are Average Drop and Increase in
    Confidence of Chattopadhyay et al. (Grad-CAM++), WACV 2018, arXiv:1710.11063.
Departs from source: y is clamped to at least 1e-12 to avoid 0 / 0; `clamped` counts such images.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.measures.removal.api_apd_ir_dr import SMALLEST, drop, falls, gain, increase, rises
from xaikit.measures.removal.protocol import KeepProtocol

_ROUNDING = 1e-6  # of a probability in float32

if TYPE_CHECKING:
    from pandas import DataFrame

    from xaikit.images.drawing import Sheet


@dataclass(frozen=True, eq=False, repr=False)
class KeepCurve:
    """Confidence of a batch under the masks of one method, over the thresholds.

    Args:
        thresholds: (T,) t = j / J; a single NaN for threshold="otsu".
        y: (N,) confidence on the unchanged images.
        o: (N, T) confidence on the masked images; NaN where the map is not finite.
        floor: (N,) confidence when everything is removed.
        kept: (N, T) share of pixels that the level keeps.
        target: (N,) int64, the class index; of a contrast, its first class; of a callable, the top class.
        invalid: (N,) bool, True where the map is not finite.
        tie_share: (N,) share of pixels in the largest group of equal map values; NaN where the map is not finite.
        protocol: the settings of the measurement.
        forwards: number of masked images that went through the network for this curve.
        reused: number of values of `o` that needed no forward, because they equal another by construction.
        halved: whether memory ran out and portions were halved; values then agree to 1e-4, not to the bit.
    """

    thresholds: Tensor
    y: Tensor
    o: Tensor
    floor: Tensor
    kept: Tensor
    target: Tensor
    invalid: Tensor
    tie_share: Tensor
    protocol: KeepProtocol
    forwards: int = 0
    reused: int = 0
    halved: bool = False

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def join(cls, curves: Sequence[KeepCurve]) -> KeepCurve:
        """Return one curve of the images of all curves, in order.

        Raises:
            BadInput: no curve, or curves of several protocols.
        """
        protocols = {curve.protocol.hash for curve in curves}
        if len(protocols) != 1:
            raise BadInput(f"curves: expected curves of one protocol, got curves of {len(protocols)} protocols")
        first = curves[0]
        joined: dict[str, Any] = {
            field.name: torch.cat([getattr(curve, field.name) for curve in curves])
            for field in fields(cls)
            if field.name != "thresholds" and isinstance(getattr(first, field.name), Tensor)
        }
        return replace(
            first,
            **joined,
            forwards=sum(curve.forwards for curve in curves),
            reused=sum(curve.reused for curve in curves),
            halved=any(curve.halved for curve in curves),
        )

    def __repr__(self) -> str:
        count, levels = len(self), len(self.thresholds)
        images = f"{count} image{'' if count == 1 else 's'}"
        left_out = f"; {self.excluded} left out, their maps are not finite" if self.excluded else ""
        area = f"; mean area {float(self.auc().nanmean()):.3g}" if levels > 1 and count else ""
        return f"KeepCurve({images}; {self.protocol.mask} masks, {levels} levels{area}{left_out})"

    def plot(self) -> Sheet:
        """Return a figure of the confidence over the share removed: one faint line an image, and their mean.

        Raises:
            BadInput: threshold="otsu", whose single level is no curve.
        """
        from xaikit.images.drawing import curves

        if len(self.thresholds) < 2:
            raise BadInput("plot: expected a curve of several levels, got the single one of otsu; read o and kept")
        title, score = f"{self.protocol.mask} masks, {self.protocol.order} first", f"confidence ({self.protocol.score})"
        lines, mean = self.o.numpy(), self.o.nanmean(0).numpy()
        return curves(self.thresholds.numpy(), lines, mean, "share removed", score, title)

    def to_frame(self) -> DataFrame:
        """Return a table with one row for each image and level: image, threshold, kept, y, o."""
        import pandas as pd

        count, levels = self.o.shape
        return pd.DataFrame(
            {
                "image": torch.arange(count, device="cpu").repeat_interleave(levels).numpy(),
                "threshold": self.thresholds.repeat(count).numpy(),
                "kept": self.kept.flatten().numpy(),
                "y": self.y.repeat_interleave(levels).numpy(),
                "o": self.o.flatten().numpy(),
            }
        )

    def _repr_html_(self) -> str:
        if len(self.thresholds) < 2 or not len(self):
            return f"<p>{escape(repr(self))}</p>"
        return self.plot().html(repr(self))

    # ---- one value per image and level ------------------------------------------------------------------------------

    def gains(self) -> Tensor:
        """Return max(o - y, 0) / y, (N, T); NaN where y is negative, as a logit may be."""
        return self._unless_negative(increase(self.y[:, None], self.o))

    def drops(self) -> Tensor:
        """Return max(y - o, 0) / y, (N, T); NaN where y is negative."""
        return self._unless_negative(drop(self.y[:, None], self.o))

    def bounded_gains(self) -> Tensor:
        """Return max(o - y, 0) / (1 - y), (N, T): for a probability, the share of the possible gain.

        NaN where y or o is above 1 or below 0, as a logit or a callable's value may be.
        """
        y, o = self.y[:, None], self.o
        outside = (torch.maximum(y, o) > 1 + _ROUNDING) | (torch.minimum(y, o) < -_ROUNDING)
        return gain(y, o).masked_fill(outside, torch.nan)

    def ups(self) -> Tensor:
        """Return 1 where o > y, else 0, (N, T)."""
        return self._indicator(rises(self.y[:, None], self.o, self.protocol.tie_tolerance))

    def downs(self) -> Tensor:
        """Return 1 where o < y, else 0, (N, T)."""
        return self._indicator(falls(self.y[:, None], self.o, self.protocol.tie_tolerance))

    def tied(self) -> Tensor:
        """Return 1 where o equals y, else 0, (N, T)."""
        return 1 - self.ups() - self.downs()

    def auc(self) -> Tensor:
        """Return the area under o over t, (N,); NaN for threshold="otsu", which has a single level."""
        return self._area(self.o)

    # ---- means over the images --------------------------------------------------------------------------------------

    def api(self) -> Tensor:
        """Return the Average Probability Increase, (T,), over the images whose y is not negative."""
        self._warn_of_negative()
        return self.gains().nanmean(0)

    def apd(self) -> Tensor:
        """Return the Average Probability Drop, (T,), over the images whose y is not negative."""
        self._warn_of_negative()
        return self.drops().nanmean(0)

    def ir(self) -> Tensor:
        """Return the Increase Rate, (T,)."""
        return self.ups().nanmean(0)

    def dr(self) -> Tensor:
        """Return the Drop Rate, (T,)."""
        return self.downs().nanmean(0)

    def ties(self) -> Tensor:
        """Return the share of images with o equal to y, (T,)."""
        return self.tied().nanmean(0)

    def scalars(self) -> dict[str, float]:
        """Return the numbers of a table: each measure at t = 0, its mean over the levels below 1, its area over t.

        API is heavy-tailed. It is therefore accompanied, at t = 0, by its median, its mean with each image clamped to
        1 (`api_wins`), and the largest share of a single image in the sum (`api_largest_share`).
        """
        below = ~(self.thresholds >= 1)
        curves = {"api": self.api(), "apd": self.apd(), "ir": self.ir(), "dr": self.dr(), "tr": self.ties()}
        scalars = {"keep_auc": self.auc().nanmean()}
        for name, curve in curves.items():
            scalars |= {f"{name}@t0": curve[0], f"{name}_mean": curve[below].mean(), f"{name}_auc": self._area(curve)}
        gains = self.gains()[:, 0]
        scalars |= {
            "keep_auc_relative": 1 + scalars["api_auc"] - scalars["apd_auc"],
            "api_median": gains.nanmedian() if len(gains) else gains.mean(),
            "api_wins": gains.clamp(max=1).nanmean(),
            "api_largest_share": gains.nan_to_num(0).amax() / gains.nansum() if len(gains) else gains.mean(),
        }
        return {name: float(value) for name, value in scalars.items()}

    @property
    def excluded(self) -> int:
        """Number of images left out of the means because their map is not finite."""
        return int(self.invalid.sum())

    @property
    def clamped(self) -> int:
        """Number of images whose y was clamped to 1e-12."""
        return int((self.y < SMALLEST).sum())

    def _unless_negative(self, ratio: Tensor) -> Tensor:
        return ratio.masked_fill(self.y[:, None] < 0, torch.nan)

    def _warn_of_negative(self) -> None:
        negative = int((self.y < 0).sum())
        if negative:
            warnings.warn(
                f"keep curve: a relative gain or drop needs a confidence that is not negative, got {negative} of "
                f"{len(self)} images below 0, which are left out; read ir, dr and auc, or measure a probability",
                XaikitWarning,
                stacklevel=3,
            )

    def _indicator(self, condition: Tensor) -> Tensor:
        return condition.double().masked_fill(self.o.isnan(), torch.nan)

    def _area(self, values: Tensor) -> Tensor:
        """Return the trapezoidal integral of values (..., T) over t."""
        if len(self.thresholds) < 2:
            return values.new_full(values.shape[:-1], torch.nan)
        return torch.trapezoid(values, self.thresholds)
