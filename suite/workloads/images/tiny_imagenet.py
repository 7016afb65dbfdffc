"""Tiny ImageNet, 64x64 pixels, 200 classes, from the folder that Stanford's course CS231n publishes."""

from pathlib import Path

import torch
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.augment import Flip, ImageTransform, ResizedCrop
from suite.workloads.base import Data
from suite.workloads.files import locate, one_line
from suite.workloads.images.decode import decode_all, read_image, to_bytes
from suite.workloads.images.splits import hold_out, load_mapped

NAME = "tiny-imagenet-200"
ADVICE = f"unpack http://cs231n.stanford.edu/{NAME}.zip there"
NUM_CLASSES = 200
NUM_PER_CLASS = 500
NUM_VAL = 5_000  # of 100,000
SIDE = 64
TRANSFORM = ImageTransform(
    mean=(0.4802, 0.4481, 0.3975), std=(0.2770, 0.2691, 0.2821), before=(ResizedCrop(), Flip())
)  # of the training images, as the literature has them


def load_tiny_imagenet() -> Data:
    """Return Tiny ImageNet (Le & Yang, 2015): 95,000 + 5,000 + 10,000 small photographs.

    The published test images have no labels: the published validation set is the test split here, and the validation
    split is a part of the published training set. Looked for in ``tiny-imagenet-200`` of the data folder. Decoded once,
    into the cache; a file that is replaced by another of its name is noticed only if its folder's time changes.

    Returns:
        The three splits, bytes ``[n, 3, 64, 64]``; class k is the k-th of the sorted WordNet ids.

    Raises:
        UsageError: If the data set is missing, lacks files or has one that cannot be decoded, or the cache cannot be
            written.
    """  # noqa: DOC502
    folder = locate(NAME, ["wnids.txt", "train", "val/images", "val/val_annotations.txt"], advice=ADVICE)
    classes = read_classes(folder)
    sources = [_images(folder, name) for name in classes]
    sources += [folder / "val" / "val_annotations.txt", folder / "val" / "images"]

    def build() -> dict[str, Tensor]:
        paths, labels = list_train(folder, classes)
        train, val = hold_out(labels, NUM_VAL, folder)
        test_paths, test_labels = list_test(folder, classes)
        return {
            **{"train_images": _decode([paths[at] for at in train]), "train_labels": labels[train]},
            **{"val_images": _decode([paths[at] for at in val]), "val_labels": labels[val]},
            **{"test_images": _decode(test_paths), "test_labels": test_labels},
        }

    return load_mapped(f"{NAME}-val{NUM_VAL}", sources, build, TRANSFORM)


def read_classes(folder: Path) -> list[str]:
    """Return the WordNet ids of the classes.

    Args:
        folder: Of the data set.

    Returns:
        200 of them, sorted.

    Raises:
        UsageError: If there are not 200 of them, or one has no folder.
    """
    path = folder / "wnids.txt"
    classes = sorted(set(_read_text(path).split()))
    if len(classes) != NUM_CLASSES:
        raise UsageError(f"{path} names {len(classes)} classes, must be {NUM_CLASSES}; {ADVICE}")
    for name in classes:
        if not _images(folder, name).is_dir():
            raise UsageError(f"{_images(folder, name)} is missing: every class of {path} has a folder; {ADVICE}")
    return classes


def list_train(folder: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    """Return the published training images.

    Args:
        folder: Of the data set.
        classes: WordNet ids, in the order of the labels.

    Returns:
        Paths, sorted within a class, and int64 labels.

    Raises:
        UsageError: If a class has not 500 images.
    """
    paths: list[Path] = []
    for name in classes:
        own = sorted(each for each in _images(folder, name).iterdir() if each.suffix == ".JPEG")
        if len(own) != NUM_PER_CLASS:
            raise UsageError(f"{_images(folder, name)} holds {len(own)} images, must be {NUM_PER_CLASS}; {ADVICE}")
        paths += own
    return paths, torch.arange(len(classes)).repeat_interleave(NUM_PER_CLASS)


def list_test(folder: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    """Return the published validation images, and what their annotations say.

    Args:
        folder: Of the data set.
        classes: WordNet ids, in the order of the labels.

    Returns:
        Paths, sorted, and int64 labels.

    Raises:
        UsageError: If an annotation cannot be read or names an unknown class, or if not just the images that are there
            are annotated.
    """
    path, images = folder / "val" / "val_annotations.txt", folder / "val" / "images"
    label_of = {name: label for label, name in enumerate(classes)}
    labels = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if name not in label_of:
            raise UsageError(f"{path}, line {number}: unknown class {name!r}, must be one of wnids.txt; {ADVICE}")
        labels[file] = label_of[name]
    there = {each.name for each in images.glob("*.JPEG")}
    odd = sorted(there ^ labels.keys())
    if odd or not labels:
        what = f"{odd[0]!r} has no {'annotation' if odd[0] in there else 'image'}" if odd else "there are none"
        raise UsageError(f"{images} and {path.name} must name the same images, but {what}; {ADVICE}")
    files = sorted(labels)
    return [images / file for file in files], torch.tensor([labels[file] for file in files])


def _images(folder: Path, name: str) -> Path:
    return folder / "train" / name / "images"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}; {ADVICE}") from error


def _decode(paths: list[Path]) -> Tensor:
    return decode_all(_decode_one, paths, size=(3, SIDE, SIDE))


def _decode_one(path: Path) -> Tensor:
    image = read_image(path)
    if image.size != (SIDE, SIDE):
        raise UsageError(
            f"the image {path} has {image.width} x {image.height} pixels, must be {SIDE} x {SIDE}; {ADVICE}"
        )
    return to_bytes(image)
