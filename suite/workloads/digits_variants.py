"""Three more tasks on the handwritten digits, as quick: with Cutout, which way up they are, and with a perceptron."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads import digits
from suite.workloads.augment import Crop, Cutout, ImageTransform
from suite.workloads.base import Data, TensorSplit, WorkloadSpec
from suite.workloads.tasks import accuracy

PADDING = 1  # CIFAR's 4 of 32 pixels, scaled to 8
CUTOUT = 2
NUM_TURNS = 4
HIDDEN = 128


def load_cutout() -> Data:
    """Return the digits, the training images shifted by up to a pixel and with a square of 2 x 2 blanked.

    Returns:
        The splits of :func:`suite.workloads.digits.load`, standardized alike; bytes ``[n, 1, 8, 8]`` from 0 to 16.
    """
    parts = digits.published_parts()
    train_pixels, _ = parts[0]
    mean, std = train_pixels.mean() / 255, train_pixels.std() / 255  # a transform counts bytes in 255ths
    plain = ImageTransform((mean,), (std,))
    augmented = ImageTransform((mean,), (std,), (Crop(PADDING),), (Cutout(CUTOUT),))
    return Data(*(_bytes(*part, each) for part, each in zip(parts, (augmented, plain, plain), strict=True)))


def _bytes(pixels: Any, labels: Any, transform: ImageTransform) -> TensorSplit:  # noqa: ANN401
    images = torch.as_tensor(pixels).to(torch.uint8).reshape(-1, 1, 8, 8)
    return TensorSplit(images, torch.as_tensor(labels, dtype=torch.int64), transform)


def load_rotation() -> Data:
    """Return the digits in four rotations each, which are the classes: what a network can learn without labels.

    Gidaris et al. (2018), "Unsupervised Representation Learning by Predicting Image Rotations". All rotations of an
    image are in one split, that of the image in :func:`suite.workloads.digits.load`.

    Returns:
        5,028 + 1,080 + 1,080 images, shape ``[n, 1, 8, 8]``; class k is turned by k quarters, counterclockwise.
    """
    data = digits.load()
    return Data(
        *(_turned(split.inputs) for split in (data.train, data.val, data.test) if isinstance(split, TensorSplit))
    )


def _turned(images: Tensor) -> TensorSplit:
    turns = torch.arange(NUM_TURNS)
    inputs = torch.cat([images.rot90(int(turn), (2, 3)) for turn in turns])
    return TensorSplit(inputs, turns.repeat_interleave(len(images)))


def build_mlp() -> nn.Module:
    """Return a perceptron of two hidden layers of 128 units, without normalization; 26,122 parameters.

    Returns:
        A module from ``[B, 1, 8, 8]`` to logits ``[B, 10]``.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, 10),
    )


_CLASSIFICATION: dict[str, Any] = {
    "loss": F.cross_entropy,
    "metric": accuracy,
    "metric_name": "accuracy",
    "batch_size": 64,
    "num_train": digits.NUM_TRAIN,
    "num_train_paper": digits.NUM_TRAIN + digits.NUM_VAL,
}
_ROTATION: dict[str, Any] = {
    **_CLASSIFICATION,
    "num_train": NUM_TURNS * digits.NUM_TRAIN,
    "num_train_paper": NUM_TURNS * (digits.NUM_TRAIN + digits.NUM_VAL),
}

SPECS = (
    WorkloadSpec(
        name="digits_cutout",
        load=load_cutout,
        build_model=digits.build_model,
        target=0.99,
        target_set_by="SGD at lr 0.1, Adam at 3e-3, 600 steps, seeds 0 to 2: after 133 to 304 steps; 0.989 at least",
        reference="the CNN of `digits`, on digits shifted by up to a pixel and with Cutout of 2 x 2",
        **_CLASSIFICATION,
    ),
    WorkloadSpec(
        name="digits_rotation",
        load=load_rotation,
        build_model=partial(digits.build_model, num_classes=NUM_TURNS),
        target=0.93,
        target_set_by="SGD at lr 0.1, Adam at 3e-3, 500 steps, seeds 0 to 2: after 234 to 390 steps; 0.938 at least",
        reference="the CNN of `digits` with four classes: how many quarters a digit is turned (Gidaris et al., 2018)",
        **_ROTATION,
    ),
    WorkloadSpec(
        name="digits_mlp",
        load=digits.load,
        build_model=build_mlp,
        target=0.96,
        target_set_by="SGD at lr 0.1, Adam at 3e-3, 400 steps, seeds 0 to 2: after 95 to 152 steps; 0.967 at least",
        reference="a perceptron of 26,122 parameters, two hidden layers, on digits of 8x8",
        **_CLASSIFICATION,
    ),
)
