"""Handwritten digits, 8x8 pixels, embedded in scikit-learn: the default that needs no download."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads.base import Data, TensorSplit, WorkloadSpec
from suite.workloads.sklearn_sets import three_splits
from suite.workloads.tasks import accuracy

NUM_VAL = NUM_TEST = 270  # 15 % of 1,797 each; one image is 0.37 %


def load() -> Data:
    """Return the digits, split by a fixed seed with the classes in proportion.

    Returns:
        1,257 + 270 + 270 images, shape ``[n, 1, 8, 8]``, standardized by the training split's mean and deviation.
    """
    from sklearn.datasets import load_digits

    parts = three_splits(*load_digits(return_X_y=True), num_val=NUM_VAL, num_test=NUM_TEST)
    train_pixels, _ = parts[0]
    mean, std = train_pixels.mean(), train_pixels.std()

    def split(pixels: object, targets: object) -> TensorSplit:
        inputs = (torch.as_tensor(pixels, dtype=torch.float32) - mean) / std
        return TensorSplit(inputs.reshape(-1, 1, 8, 8), torch.as_tensor(targets, dtype=torch.int64))

    return Data(*(split(*part) for part in parts))


def build_model() -> nn.Module:
    """Return a small CNN: two convolutions with BatchNorm, two linear layers; 38,378 parameters.

    Returns:
        A module from ``[B, 1, 8, 8]`` to logits ``[B, 10]``.
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
        nn.Linear(64, 10),
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
    reference="a CNN of 38,378 parameters on digits of 8x8: Alpaydin & Kaynak (1998), scikit-learn",
)
