"""The networks, each with what the tests need to know of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from suite.workloads.networks.convolutional import densenet121_cifar, mlp, mnist_cnn, mobilenetv3_cifar
from suite.workloads.networks.resnet import resnet8, resnet_cifar, resnet_imagenet
from suite.workloads.networks.transformers import (
    cct_2_3x2,
    focalnet_cifar,
    small_vit,
    swin_b_tiny_imagenet,
    swin_t_cifar,
)


@dataclass(frozen=True)
class Network:
    name: str
    build: Callable[[], nn.Module]
    num_parameters: int
    num_classes: int
    smallest: tuple[int, ...]
    is_big: bool = False


NETWORKS = (
    Network("resnet18", partial(resnet_cifar, 18, num_classes=10), 11_173_962, 10, (3, 1, 1)),
    Network("resnet50", partial(resnet_cifar, 50, num_classes=10), 23_520_842, 10, (3, 1, 1), is_big=True),
    Network("resnet101", partial(resnet_cifar, 101, num_classes=10), 42_512_970, 10, (3, 1, 1), is_big=True),
    Network("resnet_imagenet", resnet_imagenet, 25_557_032, 1000, (3, 1, 1), is_big=True),
    Network("resnet8", resnet8, 77_754, 10, (1, 1, 1)),
    Network("densenet121", partial(densenet121_cifar, 10), 6_956_426, 10, (3, 8, 8)),
    Network("mobilenetv3", partial(mobilenetv3_cifar, 10), 4_214_842, 10, (3, 1, 1)),
    Network("mnist_cnn", mnist_cnn, 5_370, 10, (1, 28, 28)),
    Network("mlp", mlp, 9, 3, (2,)),
    Network("swin_t", partial(swin_t_cifar, 10), 27_505_108, 10, (3, 32, 32)),
    Network("swin_b", swin_b_tiny_imagenet, 86_900_544, 200, (3, 64, 64), is_big=True),
    Network("focalnet", partial(focalnet_cifar, 10), 27_662_350, 10, (3, 16, 16)),
    Network("cct", partial(cct_2_3x2, 10), 283_723, 10, (3, 29, 29)),
    Network("small_vit", small_vit, 137_068, 10, (1, 28, 28)),
)
