"""Three splits out of the two that image data sets publish; C channels, H x W pixels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.augment import ImageTransform
from suite.workloads.base import Data, TensorSplit
from suite.workloads.files import cached, one_line

SPLIT_SEED = 0


def hold_out(labels: Tensor, num_val: int, source: Path) -> tuple[Tensor, Tensor]:
    """Split a validation set off by a fixed seed, with the classes in proportion.

    Args:
        labels: Of the published training images, shape ``[n]``.
        num_val: Images of the validation set.
        source: Where the labels come from, for the error.

    Returns:
        Indices of the training and of the validation images, each in ascending order.

    Raises:
        UsageError: If the images are too few.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, val = train_test_split(
            range(len(labels)), test_size=num_val, stratify=labels.tolist(), random_state=SPLIT_SEED
        )
    except ValueError as error:
        raise UsageError(
            f"{source} holds {len(labels)} training images, too few to hold {num_val} of them out for validation with"
            f" the classes in proportion: {one_line(error)}; get the data set again"
        ) from error
    return torch.tensor(sorted(train)), torch.tensor(sorted(val))


def check_labels(labels: Tensor, num_images: int, num_classes: int, source: Path) -> None:
    """Refuse labels that do not fit the images or the classes.

    Args:
        labels: Shape ``[n]``.
        num_images: The images that they belong to.
        num_classes: Classes of the data set.
        source: Where the labels come from, for the error.

    Raises:
        UsageError: If their number is another than that of the images, or one is out of range.
    """
    if len(labels) != num_images:
        raise UsageError(f"{source} holds {len(labels)} labels for {num_images} images; get the data set again")
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise UsageError(
            f"{source} holds the label {wrong[0].item()}; labels must be in [0, {num_classes}): get the data set again"
        )


def load_mapped(
    name: str, sources: Sequence[Path], build: Callable[[], dict[str, Tensor]], transform: ImageTransform
) -> Data:
    """Return three splits, mapped from the cache; only the training split is ever augmented.

    Args:
        name: Of the data set and of how it is decoded and split.
        sources: The files that it is decoded from.
        build: Returns bytes ``<split>_images``, shape ``[n, C, H, W]``, and int64 ``<split>_labels``, shape ``[n]``, of
            the splits ``train``, ``val`` and ``test``.
        transform: Of the training images.

    Returns:
        The splits.

    Raises:
        UsageError: If the data set is corrupt, or the cache cannot be written.
    """  # noqa: DOC502
    tensors = cached(name, sources, build)
    plain = replace(transform, before=(), after=())
    train, val, test = (
        TensorSplit(tensors[f"{split}_images"], tensors[f"{split}_labels"], each)
        for split, each in (("train", transform), ("val", plain), ("test", plain))
    )
    return Data(train, val, test)


def load_arrays(
    name: str,
    sources: Sequence[Path],
    read: Callable[[bool], tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    num_val: int,
    transform: ImageTransform,
) -> Data:
    """Return three splits of a data set that is published as two arrays.

    Args:
        name: Of the data set.
        sources: The files that it is decoded from.
        read: ``read(is_train)``: bytes, shape ``[n, C, H, W]``, and int64 labels, shape ``[n]``, as published.
        num_classes: Classes of the data set.
        num_val: Training images that become the validation split.
        transform: Of the training images.

    Returns:
        The splits.

    Raises:
        UsageError: If the data set is corrupt, or the cache cannot be written.
    """  # noqa: DOC502

    def build() -> dict[str, Tensor]:
        (images, labels), (test_images, test_labels) = read(True), read(False)
        for pixels, targets in ((images, labels), (test_images, test_labels)):
            check_labels(targets, len(pixels), num_classes, sources[0].parent)
        train, val = hold_out(labels, num_val, sources[0].parent)
        return {
            **{"train_images": images[train], "train_labels": labels[train]},
            **{"val_images": images[val], "val_labels": labels[val]},
            **{"test_images": test_images, "test_labels": test_labels},
        }

    return load_mapped(f"{name}-val{num_val}", sources, build, transform)
