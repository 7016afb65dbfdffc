"""Image files to pixels, on as many threads as torch computes on: the decoder lets go of Python's lock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.files import one_line

UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow raises


def read_image(path: str | Path) -> Image.Image:
    """Return an image in RGB, whatever its file's colours are.

    Args:
        path: The file, in any format that Pillow reads.

    Returns:
        The image, decoded.

    Raises:
        UsageError: If it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UNDECODABLE as error:
        raise UsageError(f"the image {path} cannot be decoded: {one_line(error)}; get it again") from error


def to_bytes(image: Image.Image) -> Tensor:
    """Return an image's pixels.

    Args:
        image: In RGB.

    Returns:
        Bytes, shape ``[3, H, W]``.
    """
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1)


def decode_all(decode: Callable[..., Tensor], *arguments: Sequence[Any], size: tuple[int, int, int]) -> Tensor:
    """Return all images that a function decodes, in order.

    Args:
        decode: ``decode(*one_of_each_argument)``: bytes of shape ``size``; called on several threads.
        *arguments: n values each; at least one argument.
        size: Channels, height and width.

    Returns:
        Bytes, shape ``[n, *size]``.
    """
    images = torch.empty((len(arguments[0]), *size), dtype=torch.uint8)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as threads:
        for image, decoded in zip(images, threads.map(decode, *arguments), strict=True):
            image.copy_(decoded)
    return images
