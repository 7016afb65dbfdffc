"""Fashion-MNIST, 60,000 real images of 28 x 28, with two networks that a CPU trains in minutes."""

from collections.abc import Callable
from functools import partial

from torch import nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads import examples
from suite.workloads.base import WorkloadSpec
from suite.workloads.images.idx import load_fashion_mnist
from suite.workloads.networks.resnet import resnet8
from suite.workloads.networks.transformers import small_vit
from suite.workloads.tasks import accuracy


def _spec(network: str, build_model: Callable[[], nn.Module], target: float, target_set_by: str) -> WorkloadSpec:
    return WorkloadSpec(
        name=f"fashion_mnist_{network}",
        load=load_fashion_mnist,
        build_model=build_model,
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        target=target,
        target_set_by=target_set_by,
        batch_size=128,
        example=partial(examples.images, shape=(1, 28, 28), num_classes=10),
        reference="Xiao et al. (2017), Fashion-MNIST; Debian's dataset-fashion-mnist, or torchvision's download",
    )


SPECS = (
    _spec("resnet8", resnet8, 0.9, ""),
    _spec("vit", small_vit, 0.85, ""),
)
