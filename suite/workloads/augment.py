"""Augmentations of images, vectorized over the batch: pure functions of the images and of the draws they are given.

B images, C channels, H x W pixels. Draws are uniform in [0, 1), one row an image; an image's row is a function of
(seed, epoch, sample index), so that neither the order of batches nor the number of workers changes what is seen. What
moves pixels does so on bytes, before they become float32: a fourth of the memory to move.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from suite.workloads.base import Transform


class Augmentation(ABC):
    """One random change of images.

    Attributes:
        num_draws: Random numbers that it takes an image.
    """

    num_draws: int

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change each image.

        Args:
            images: Shape ``[B, C, H, W]``; not written to.
            draws: Shape ``[B, num_draws]``.

        Returns:
            Shape and dtype of ``images``.
        """


@dataclass(frozen=True, slots=True)
class Crop(Augmentation):
    """Pad with black, and cut a window of the old size out at a random place (He et al., 2016, section 4.2).

    Args:
        padding: Pixels on each side.
    """

    padding: int
    num_draws = 2

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change each image.

        Args:
            images: Shape ``[B, C, H, W]``, any dtype.
            draws: Shape ``[B, 2]``: down and right.

        Returns:
            Shape and dtype of ``images``.
        """
        batch, channels, height, width = images.shape
        padded = F.pad(images, [self.padding] * 4)
        stride = padded.shape[3]
        down, right = (draws * (2 * self.padding + 1)).long().unbind(1)
        # a row of a window is a run in memory: all rows are copied by where they start, which is 10x a gather of pixels
        planes = torch.arange(batch * channels, device=images.device).view(batch, channels) * padded.shape[2] * stride
        starts = (planes + (down * stride + right)[:, None])[:, :, None]
        starts = starts + torch.arange(height, device=images.device) * stride
        return padded.flatten().unfold(0, width, 1).index_select(0, starts.flatten()).view(images.shape)


@dataclass(frozen=True, slots=True)
class ResizedCrop(Augmentation):
    """Cut out a random part and stretch it to the old size (Szegedy et al., 2015), bilinear.

    Of torchvision's ``RandomResizedCrop`` it differs in two points. A part that would not fit is clipped to the image
    instead of drawn again, as the number of draws is fixed; and a part may start and end between two pixels.

    Args:
        scale: Least and greatest part of the area.
        ratio: Least and greatest ratio of width to height, drawn on a logarithmic scale.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    num_draws = 4

    def window(self, height: int, width: int, draws: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return where the parts lie.

        Args:
            height: Of the images.
            width: Of the images.
            draws: Shape ``[B, 4]``: area, ratio, down, right.

        Returns:
            Top, left, height and width, in pixels, fractional, each of shape ``[B]``.
        """
        low, high = self.scale
        least, greatest = map(math.log, self.ratio)
        area = (low + (high - low) * draws[:, 0]) * height * width
        ratio = (least + (greatest - least) * draws[:, 1]).exp()
        part_width, part_height = (area * ratio).sqrt().clamp(max=width), (area / ratio).sqrt().clamp(max=height)
        return (height - part_height) * draws[:, 2], (width - part_width) * draws[:, 3], part_height, part_width

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change each image.

        Args:
            images: Shape ``[B, C, H, W]``, bytes or floating point.
            draws: Shape ``[B, 4]``.

        Returns:
            Shape ``[B, C, H, W]``; dtype of ``images``, float32 if they are bytes.
        """
        height, width = images.shape[2:]
        top, left, part_height, part_width = self.window(height, width, draws)
        rows, columns = _places(top, part_height, height), _places(left, part_width, width)
        size = (len(images), height, width)
        grid = torch.stack([columns[:, None, :].expand(size), rows[:, :, None].expand(size)], dim=3)
        images = images if images.is_floating_point() else images.float()
        return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def _places(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where the pixels of a stretched part are read, shape ``[B, size]``; the image's edges are at -1 and 1.

    Args:
        start: Of the part, in pixels, shape ``[B]``.
        length: Of the part, in pixels, shape ``[B]``.
        size: Of the image, in pixels.

    Returns:
        Places between the centres of the part's first and last pixel: what lies outside of it is not mixed in.
    """
    centres = torch.arange(size, device=start.device) + 0.5
    places = start[:, None] + length[:, None] * (centres / size)
    places = places.clamp(min=start[:, None] + 0.5).clamp(max=(start + length)[:, None] - 0.5)
    return places * (2 / size) - 1


@dataclass(frozen=True, slots=True)
class Flip(Augmentation):
    """Mirror every other image, at random, left to right."""

    num_draws = 1

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change each image.

        Args:
            images: Shape ``[B, C, H, W]``, any dtype.
            draws: Shape ``[B, 1]``: mirrored below one half.

        Returns:
            Shape and dtype of ``images``.
        """
        both = torch.cat([images, images.flip(3)])  # whole images are copied: 5x as fast as to choose by pixel
        own = torch.arange(len(images), device=images.device)
        return both.index_select(0, own + len(images) * (draws[:, 0] < 0.5))


@dataclass(frozen=True, slots=True)
class Cutout(Augmentation):
    """Blank one square at a random place, part of which may lie outside (DeVries & Taylor, 2017).

    Args:
        length: Side of the square, in pixels; even.
    """

    length: int
    num_draws = 2

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change each image.

        Args:
            images: Shape ``[B, C, H, W]``, floating point, standardized: 0 is the mean colour.
            draws: Shape ``[B, 2]``: row and column of the square's centre.

        Returns:
            Shape and dtype of ``images``.
        """
        outside = []
        for size, draw in zip(images.shape[2:], draws.unbind(1), strict=True):
            start = (draw * size).floor()[:, None] - self.length // 2
            place = torch.arange(size, device=images.device)
            outside.append((place < start) | (place >= start + self.length))
        rows, columns = outside
        return images * (rows[:, :, None] | columns[:, None, :])[:, None]


@dataclass(frozen=True, slots=True)
class ImageTransform(Transform):
    """Bytes to standardized images, augmented before and after.

    Args:
        mean: Of each channel, of pixels in [0, 1].
        std: Of each channel.
        before: Augmentations of pixels from 0 to 255, stored as bytes until one returns floating point.
        after: Augmentations of standardized images.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    before: tuple[Augmentation, ...] = ()
    after: tuple[Augmentation, ...] = ()

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        """Random numbers that it takes an image."""
        return sum(each.num_draws for each in (*self.before, *self.after))

    def __call__(self, stored: Tensor, draws: Tensor | None) -> Tensor:
        """Transform a batch.

        Args:
            stored: Bytes, shape ``[B, C, H, W]``.
            draws: Shape ``[B, num_draws]``; ``None``: standardized only.

        Returns:
            float32, shape ``[B, C, H, W]``.
        """
        if draws is None:
            return self._standardize(stored)
        parts = draws.split([each.num_draws for each in (*self.before, *self.after)], 1)
        images = stored
        for augmentation, part in zip(self.before, parts, strict=False):
            images = augmentation(images, part)
        images = self._standardize(images)
        for augmentation, part in zip(self.after, parts[len(self.before) :], strict=True):
            images = augmentation(images, part)
        return images

    def _standardize(self, images: Tensor) -> Tensor:
        factor, shift = _standardization(self.mean, self.std, images.device)
        return images.mul(factor).add_(shift)  # bytes times float32 are float32


@lru_cache(maxsize=64)  # one copy to an accelerator, not one a step
def _standardization(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return factor and shift, each of shape ``[C, 1, 1]``, that standardize pixels from 0 to 255."""
    means, stds = torch.tensor([mean, std], dtype=torch.float64)[:, :, None, None].unbind()
    return (1 / (255 * stds)).float().to(device), (-means / stds).float().to(device)
