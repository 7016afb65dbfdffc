"""Fashion-MNIST, 60,000 real images of 28 x 28, with two networks that a CPU trains in minutes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads import examples
from suite.workloads.base import WorkloadSpec
from suite.workloads.images.idx import NUM_VAL, load_fashion_mnist
from suite.workloads.networks.resnet import resnet8
from suite.workloads.networks.transformers import small_vit
from suite.workloads.tasks import accuracy

NUM_PUBLISHED = 60_000  # training images, of which some are held out


def _spec(network: str, label: str, build_model: Callable[[], nn.Module], **target: Any) -> WorkloadSpec:  # noqa: ANN401
    return WorkloadSpec(
        name=f"fashion_mnist_{network}",
        load=load_fashion_mnist,
        build_model=build_model,
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        batch_size=128,
        num_train=NUM_PUBLISHED - NUM_VAL,
        num_train_paper=NUM_PUBLISHED,
        example=partial(examples.images, shape=(1, 28, 28), num_classes=10),
        reference=f"{label} on Fashion-MNIST: Xiao et al. (2017), by Debian's dataset-fashion-mnist or torchvision",
        **target,
    )


VIT_RUNS = "AdamW at lr 1e-3 and 3e-3, weight decay 0.05, 3 epochs, seed 0: 0.804 and 0.827"
RESNET8_RUNS = "SGD at lr 0.3, Nesterov momentum 0.9, weight decay 5e-4, 6 epochs, seed 0: 0.919"
SPECS = (
    _spec("resnet8", "a ResNet-8 of 77,754 parameters", resnet8, target=0.9, target_set_by=RESNET8_RUNS),
    _spec("vit", "a ViT of 137,068 parameters", small_vit, target=0.8, target_set_by=VIT_RUNS),
)
