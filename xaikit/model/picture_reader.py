"""Pictures of any kind as a network's pixels.

    path, PIL picture, array, tensor, or several -> decode, resize -> pixels (N, C, H, W) in [0, 1]

`read` gives the pixels, `pictures` the originals beside them, for figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import XaikitError
from xaikit.images.reading import (
    Inputs,
    Pictures,
    ReadPolicy,
    Resize,
    Source,
    Sources,
    read_batch,
    read_each,
    read_pictures,
    resize_policy,
)
from xaikit.images.scaling import value_range as stated
from xaikit.model.facts import warn_of_pixels


class PictureReader(nn.Module):
    """The part of a classifier that reads pictures."""

    channels: int
    resize: Resize
    mean: Tensor
    name: str
    _told: bool  # whether it need not be said that the normalisation is unknown

    @property
    def device(self) -> torch.device:
        """Device of the pixels."""
        raise NotImplementedError

    def check(self, inputs: Inputs) -> Tensor:
        """Return pixels as the network takes them."""
        raise NotImplementedError

    def read(
        self, sources: Sources, resize: ReadPolicy | None = None, value_range: Sequence[float] | None = None
    ) -> Tensor:
        """Read pictures as one batch of pixels (N, C, H, W) in [0, 1] on the classifier's device.

        Args:
            sources: path, PIL picture or array (H, W) or (H, W, C), or several of them and of tensors (C, H, W), which
                are not resized; a tensor (N, C, H, W) is only checked.
            resize: "weights" resizes as the classifier was built, "squash" to exactly its size, "native" not at all;
                "pad" fits the whole picture into its size and fills the rest with the classifier's mean, which is 0 in
                the network's coordinates.
            value_range: (low, high), the values that become 0 and 1, of pictures with more than 8 bits a channel; None
                takes what the file or the type of its values tells.

        Raises:
            BadInput: a picture cannot be read (the message names it), or native sizes differ.
        """
        if isinstance(sources, Tensor):
            return self.check(sources)
        return read_batch(sources, self.channels, self.resizing(resize), stated(value_range)).to(self.device)

    def pictures(
        self, inputs: Inputs, resize: ReadPolicy | None = None, value_range: Sequence[float] | None = None
    ) -> Pictures:
        """Return what `read` does with the original pictures, which figures show; `attribute` takes it."""
        if isinstance(inputs, Tensor):
            return Pictures(self.check(inputs))
        if not isinstance(inputs, Pictures):
            inputs = read_pictures(inputs, self.channels, self.resizing(resize), stated(value_range))
        return inputs._replace(pixels=self.check(inputs.pixels))

    def read_each(
        self, sources: Sources, resize: ReadPolicy | None = None
    ) -> Iterator[tuple[Source, Tensor | XaikitError]]:
        """Yield each source with its pixels (C, H, W), or with the error if it cannot be read."""
        return read_each(sources, self.channels, self.resizing(resize))

    def resizing(self, resize: ReadPolicy | None = None) -> Resize:
        """Return how pictures are resized, as in `read`; the first use warns of unknown normalisation."""
        self._tell()
        return resize_policy(resize, self.resize, tuple(self.mean.flatten().tolist()))

    def _tell(self) -> None:
        """Warn once of unknown normalisation."""
        if not self._told:
            self._told = True
            warn_of_pixels(self.name)
