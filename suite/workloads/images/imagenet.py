"""ImageNet-1k from folders ``train/<class>`` and ``val/<class>``: too large for memory, so decoded batch by batch."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.augment import Flip, ImageTransform, ResizedCrop
from suite.workloads.base import Data, Split
from suite.workloads.files import locate, one_line
from suite.workloads.images.decode import decode_all, read_image, to_bytes
from suite.workloads.images.splits import hold_out

ADVICE = "unpack ILSVRC2012 from https://image-net.org there, each image in the folder of its class"
NUM_CLASSES = 1_000
NUM_IMAGES = {"train": 1_281_167, "val": 50_000}
NUM_VAL = 10_000  # of 1,281,167
SIDE = 224
RESIZED = 256  # shorter side of evaluated images, of which the centre is cut out
STANDARDIZE = ImageTransform(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class FolderSplit(Split):
    """Photographs that are decoded as they are taken.

    Args:
        files: n paths.
        targets: int64, shape ``[n]``.
        crop: Which part of an augmented image is cut out, which is then mirrored at random; ``None``: never augmented.
    """

    files: tuple[str, ...]
    targets: Tensor
    crop: ResizedCrop | None = None
    is_decoded = True

    @property
    def num_draws(self) -> int:  # type: ignore[override]
        """Random numbers that an image's augmentation takes."""
        return self.crop.num_draws + Flip.num_draws if self.crop else 0

    def __len__(self) -> int:
        return len(self.files)

    def take(self, picked: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return images as the model takes them.

        Args:
            picked: Their indices, shape ``[n]``.
            draws: Uniform in [0, 1), shape ``[n, num_draws]``. ``None``: the shorter side is resized to 256 pixels, and
                the centre cut out.

        Returns:
            float32, standardized, shape ``[n, 3, 224, 224]``, and labels, shape ``[n]``.

        Raises:
            UsageError: If an image cannot be decoded.
        """  # noqa: DOC502
        picked = picked.cpu()
        files = [self.files[at] for at in picked.tolist()]
        size = (3, SIDE, SIDE)
        if self.crop is None or draws is None:
            images = decode_all(decode_centre, files, size=size)
        else:
            where, mirrored = draws.cpu().split([self.crop.num_draws, Flip.num_draws], dim=1)
            images = decode_all(partial(decode_part, self.crop), files, where.split(1), size=size)
            images = Flip()(images, mirrored)
        return STANDARDIZE(images, None), self.targets[picked]

    def join(self, other: Self) -> Self:
        """Return these images and those of another split; augmented as these are.

        Args:
            other: Comes after these.

        Returns:
            Both.
        """
        return type(self)((*self.files, *other.files), torch.cat([self.targets, other.targets]), self.crop)


def decode_part(crop: ResizedCrop, file: str, draws: Tensor) -> Tensor:
    """Return a random part of an image, stretched.

    Args:
        crop: Says which part, here in whole pixels.
        file: Of the image.
        draws: Shape ``[1, 4]``.

    Returns:
        Bytes, shape ``[3, 224, 224]``.

    Raises:
        UsageError: If the image cannot be decoded.
    """  # noqa: DOC502
    image = read_image(file)
    top, left, height, width = (round(each.item()) for each in crop.window(image.height, image.width, draws))
    height, width = max(height, 1), max(width, 1)
    top, left = min(top, image.height - height), min(left, image.width - width)
    part = image.crop((left, top, left + width, top + height))
    return to_bytes(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def decode_centre(file: str) -> Tensor:
    """Return the centre of an image whose shorter side is resized to 256 pixels.

    Args:
        file: Of the image.

    Returns:
        Bytes, shape ``[3, 224, 224]``.

    Raises:
        UsageError: If the image cannot be decoded.
    """  # noqa: DOC502
    from torchvision.transforms import functional

    image = functional.resize(read_image(file), RESIZED)
    return to_bytes(functional.center_crop(image, [SIDE, SIDE]))


def load_imagenet() -> Data:
    """Return ImageNet-1k (Russakovsky et al., 2015): 1,271,167 + 10,000 + 50,000 photographs, 1,000 classes.

    The published test images have no labels: the published validation set is the test split here, and the validation
    split is a part of the published training set. Looked for in ``imagenet`` of the data folder. A training image is a
    random part, stretched to 224 x 224 pixels and mirrored at random.

    Returns:
        The three splits; class k is the k-th of the sorted names of the folders.

    Raises:
        UsageError: If the data set is missing or lacks files.
    """  # noqa: DOC502
    folder = locate("imagenet", ["train", "val"], advice=ADVICE)
    (files, labels, classes), (test_files, test_labels, test_classes) = _index(folder, "train"), _index(folder, "val")
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        raise UsageError(f"{folder}: train and val must have the same classes, but one lacks {odd!r}; {ADVICE}")
    train, val = hold_out(labels, NUM_VAL, folder)
    return Data(
        FolderSplit(tuple(files[at] for at in train), labels[train], ResizedCrop()),
        FolderSplit(tuple(files[at] for at in val), labels[val]),
        FolderSplit(tuple(test_files), test_labels),
    )


def _index(folder: Path, part: str) -> tuple[list[str], Tensor, list[str]]:
    """Return paths, labels and classes of the published training or validation set."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder / part))
    except OSError as error:
        raise UsageError(f"{folder / part} cannot be read: {one_line(error)}; {ADVICE}") from error
    for what, number, right in (
        ("classes", len(found.classes), NUM_CLASSES),
        ("images", len(found.samples), NUM_IMAGES[part]),
    ):
        if number != right:
            raise UsageError(f"{folder / part} holds {number} {what}, must be {right}; {ADVICE}")
    return [path for path, _ in found.samples], torch.tensor(found.targets), found.classes
