"""MNIST and Fashion-MNIST, 28x28 pixels, grey, 10 classes, from files in the IDX format, compressed or not."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.augment import Crop, Flip, ImageTransform
from suite.workloads.base import Data
from suite.workloads.files import data_folder, locate, one_line
from suite.workloads.images.splits import load_arrays

NUM_CLASSES = 10
NUM_VAL = 5_000  # of 60,000
SIDE = 28
MNIST_TRANSFORM = ImageTransform(mean=(0.1307,), std=(0.3081,))
FASHION_TRANSFORM = ImageTransform(mean=(0.2860,), std=(0.3530,), before=(Crop(padding=2), Flip()))
DEBIAN_FASHION = "/usr/share/datasets/fashion-mnist"
# of the uncompressed files: Debian compressed them anew, so that the published checksums do not hold there
MD5S = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


def load_mnist() -> Data:
    """Return MNIST (LeCun et al., 1998): 55,000 + 5,000 + 10,000 handwritten digits, never augmented.

    Looked for in ``MNIST`` of the data folder, there or in ``raw`` as torchvision lays it out; else downloaded.

    Returns:
        The three splits, bytes ``[n, 1, 28, 28]``.

    Raises:
        UsageError: If the data set is missing or corrupt, or the cache cannot be written.
    """  # noqa: DOC502
    return _load("MNIST", MNIST_TRANSFORM, "put train-images-idx3-ubyte.gz and the other three files there")


def load_fashion_mnist() -> Data:
    """Return Fashion-MNIST (Xiao et al., 2017): 55,000 + 5,000 + 10,000 articles of clothing.

    Looked for in ``FashionMNIST`` of the data folder, there or in ``raw`` as torchvision lays it out, and where
    Debian's package puts it; else downloaded. Training images are padded by 2, cropped and mirrored.

    Returns:
        The three splits, bytes ``[n, 1, 28, 28]``.

    Raises:
        UsageError: If the data set is missing or corrupt, or the cache cannot be written.
    """  # noqa: DOC502
    return _load("FashionMNIST", FASHION_TRANSFORM, "apt-get install dataset-fashion-mnist", DEBIAN_FASHION)


def _load(name: str, transform: ImageTransform, advice: str, *places: str) -> Data:
    from torchvision import datasets

    def download(folder: Path) -> None:
        getattr(datasets, name)(str(folder.parent), download=True)  # into <parent>/<name>/raw

    md5s = MD5S[name]
    places = (str(data_folder() / name / "raw"), *places)
    folder = locate(name, [f"{file}.gz|{file}" for file in md5s], advice=advice, places=places, download=download)
    paths = {file: next(path for path in (folder / f"{file}.gz", folder / file) if path.exists()) for file in md5s}

    def read(is_train: bool) -> tuple[Tensor, Tensor]:
        part = "train" if is_train else "t10k"
        images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        return (
            read_idx(paths[images], 3, md5=md5s[images])[:, None],
            read_idx(paths[labels], 1, md5=md5s[labels]).long(),
        )

    return load_arrays(
        name.lower(), list(paths.values()), read, num_classes=NUM_CLASSES, num_val=NUM_VAL, transform=transform
    )


def read_idx(path: Path, num_dims: int, *, md5: str) -> Tensor:
    """Return the array of bytes in an IDX file.

    Two zero bytes, 8 for unsigned bytes, the number of dimensions, the dimensions as 4 bytes each, most significant
    first, and the values. torchvision's reader takes uncompressed files only, and tells nobody which file is wrong.

    Args:
        path: The file; compressed if it ends in ``.gz``.
        num_dims: Dimensions that it must have: 3 for images, which must be of 28 x 28 pixels, or 1 for labels.
        md5: Of the uncompressed file, hexadecimal.

    Returns:
        Bytes, with ``num_dims`` dimensions.

    Raises:
        UsageError: If the file cannot be read, or is not such a file.
    """
    again = "get it again"
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}; {again}") from error
    magic, start = bytes([0, 0, 8, num_dims]), 4 * (1 + num_dims)
    if content[:4] != magic:
        raise UsageError(f"{path} must begin with the bytes {magic.hex(' ')}, but has {content[:4].hex(' ')}; {again}")
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != start + math.prod(sizes):
        shape = " x ".join(map(str, sizes))
        raise UsageError(
            f"{path} must hold {start} + {shape} bytes, as its header says, but holds {len(content)}; {again}"
        )
    if sizes[1:] not in ([], [SIDE, SIDE]):
        raise UsageError(f"{path} holds images of {sizes[1]} x {sizes[2]} pixels, must be {SIDE} x {SIDE}; {again}")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise UsageError(f"{path} is corrupt: the MD5 of it, uncompressed, is {found}, must be {md5}; {again}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].view(sizes)
