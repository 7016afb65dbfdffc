"""Handwritten digits, 8x8 pixels, embedded in scikit-learn: the default that needs no download."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads.base import Data, TensorSplit, WorkloadSpec
from suite.workloads.sklearn_sets import Part, three_splits
from suite.workloads.tasks import accuracy

NUM_VAL = NUM_TEST = 270  # 15 % of each; one image is 0.37 %
NUM_TRAIN = 1_797 - NUM_VAL - NUM_TEST


def load() -> Data:
    """Return the digits, split by a fixed seed with the classes in proportion.

    Returns:
        1,257 + 270 + 270 images, shape ``[n, 1, 8, 8]``, standardized by the training split's mean and deviation.
    """
    parts = published_parts()
    train_pixels, _ = parts[0]
    mean, std = train_pixels.mean(), train_pixels.std()

    def split(pixels: object, targets: object) -> TensorSplit:
        inputs = (torch.as_tensor(pixels, dtype=torch.float32) - mean) / std
        return TensorSplit(inputs.reshape(-1, 1, 8, 8), torch.as_tensor(targets, dtype=torch.int64))

    return Data(*(split(*part) for part in parts))


def published_parts() -> tuple[Part, Part, Part]:
    """Return the digits as they are published, in the three splits that all workloads on them share.

    Returns:
        Pixels from 0 to 16, shape ``[n, 64]``, and labels, for training, validation and test.
    """
    from sklearn.datasets import load_digits

    return three_splits(*load_digits(return_X_y=True), num_val=NUM_VAL, num_test=NUM_TEST)


def build_model(num_classes: int = 10) -> nn.Module:
    """Return a small CNN: two convolutions with BatchNorm, two linear layers; 38,378 parameters for 10 classes.

    Args:
        num_classes: C.

    Returns:
        A module from ``[B, 1, 8, 8]`` to logits ``[B, C]``.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


SPEC = WorkloadSpec(
    name="digits",
    load=load,
    build_model=build_model,
    loss=F.cross_entropy,
    metric=accuracy,
    metric_name="accuracy",
    target=0.95,
    target_set_by="the default study: the best of 12 trials of each of its four arms reaches 0.981 or more",
    batch_size=64,
    num_train=NUM_TRAIN,
    num_train_paper=NUM_TRAIN + NUM_VAL,
    reference="a CNN of 38,378 parameters on digits of 8x8: Alpaydin & Kaynak (1998), scikit-learn",
)
