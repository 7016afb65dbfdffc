"""CIFAR-10 and CIFAR-100, 32x32 pixels, from the pickled batches that their authors publish for Python."""

import torch
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.augment import Crop, Cutout, Flip, ImageTransform
from suite.workloads.base import Data
from suite.workloads.files import locate, verify
from suite.workloads.images.splits import load_arrays

NUM_VAL = 5_000  # of 50,000
PADDING = 4
CUTOUT = 16
# of the training images, as the literature has them
MEAN_STD = {
    10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def load_cifar(num_classes: int, cutout: bool) -> Data:
    """Return CIFAR (Krizhevsky, 2009): 45,000 + 5,000 + 10,000 small photographs.

    Training images are padded by 4 pixels, cropped to 32 x 32 and mirrored, as in He et al. (2016). AdaFisher's paper
    says "random-resize cropping"; the code it releases pads by 4 and crops, and so does this. Looked for in
    ``cifar-10-batches-py`` or ``cifar-100-python`` of the data folder; else downloaded by torchvision.

    Args:
        num_classes: 10 or 100.
        cutout: Whether to blank one square of 16 x 16 pixels as well.

    Returns:
        The three splits, bytes ``[n, 3, 32, 32]``.

    Raises:
        UsageError: If the data set is missing or corrupt, or the cache cannot be written.
    """
    from torchvision import datasets

    if num_classes not in MEAN_STD:
        raise UsageError(f"{num_classes=} must be one of {', '.join(map(str, MEAN_STD))}")
    dataset = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[num_classes]
    md5s = {**dict(dataset.train_list), **dict(dataset.test_list), dataset.meta["filename"]: dataset.meta["md5"]}
    folder = locate(
        dataset.base_folder,
        list(md5s),
        advice=f"unpack {dataset.url} there",
        download=lambda draft: dataset(str(draft.parent), download=True),  # into <parent>/<base_folder>
    )

    def read(is_train: bool) -> tuple[Tensor, Tensor]:
        for file, md5 in md5s.items() if is_train else ():  # all of them, before any is unpickled
            verify(folder / file, md5)
        loaded = dataset(str(folder.parent), train=is_train)
        return torch.from_numpy(loaded.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(loaded.targets)

    mean, std = MEAN_STD[num_classes]
    return load_arrays(
        f"cifar{num_classes}",
        [folder / file for file in md5s],
        read,
        num_classes=num_classes,
        num_val=NUM_VAL,
        transform=ImageTransform(mean, std, (Crop(PADDING), Flip()), (Cutout(CUTOUT),) if cutout else ()),
    )
