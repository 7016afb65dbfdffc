"""CIFAR-10 and CIFAR-100 with the paper's eight networks: plain, with Cutout, and from ImageNet weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads import examples
from suite.workloads.base import WorkloadSpec
from suite.workloads.images.cifar import NUM_VAL, load_cifar
from suite.workloads.networks.convolutional import densenet121_cifar, mobilenetv3_cifar
from suite.workloads.networks.resnet import resnet_cifar
from suite.workloads.networks.transformers import cct_2_3x2, focalnet_cifar, swin_t_cifar
from suite.workloads.tasks import accuracy, top5_accuracy

BATCH_SIZE = 256
NUM_PUBLISHED = 50_000  # training images, of which some are held out
VARIANTS = {"": "", "cutout": " with Cutout", "pretrained": " from ImageNet weights"}
MARGIN = 1.0  # points of accuracy by which a target lies below what the paper prints


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the paper, and the test accuracy in per cent of its better first-order baseline.

    Args:
        label: As people write it.
        build: ``build(num_classes=…)``.
        size: Pixels of the smallest images on which a step is well-behaved.
        plain: Without Cutout, CIFAR-10 and CIFAR-100 (Table 13a).
        cutout: With Cutout (Table 2).
        pretrained: From ImageNet weights (Table 4); ``None``: not in the paper's transfer study.
    """

    label: str
    build: Callable[..., nn.Module]
    size: int
    plain: tuple[float, float]
    cutout: tuple[float, float]
    pretrained: tuple[float, float] | None = None


NETWORKS = {
    "resnet18": Network("ResNet-18", partial(resnet_cifar, 18), 16, (94.89, 76.42), (95.64, 76.56)),
    "resnet50": Network("ResNet-50", partial(resnet_cifar, 50), 32, (95.07, 77.50), (95.71, 78.01), (96.50, 82.12)),
    "resnet101": Network("ResNet-101", partial(resnet_cifar, 101), 32, (94.77, 78.76), (95.98, 78.89), (97.07, 84.01)),
    "densenet121": Network("DenseNet-121", densenet121_cifar, 16, (95.11, 78.61), (96.09, 80.13), (94.80, 75.98)),
    "mobilenetv3": Network("MobileNetV3", mobilenetv3_cifar, 16, (92.13, 73.81), (94.43, 73.89), (91.76, 71.86)),
    "swin_t": Network("Swin-T", swin_t_cifar, 32, (87.47, 62.20), (87.37, 60.21)),
    "focalnet": Network("FocalNet", focalnet_cifar, 32, (85.65, 52.88), (86.23, 52.71)),
    "cct_2_3x2": Network("CCT-2/3x2", cct_2_3x2, 32, (83.95, 60.14), (83.89, 59.78)),
}


def _spec(name: str, network: Network, num_classes: int, variant: str, published: float, table: str) -> WorkloadSpec:
    build = partial(network.build, pretrained=True) if variant == "pretrained" else network.build
    return WorkloadSpec(
        name="_".join(part for part in (f"cifar{num_classes}", name, variant) if part),
        load=partial(load_cifar, num_classes, cutout=variant == "cutout"),
        build_model=partial(build, num_classes=num_classes),
        loss=F.cross_entropy,
        metric=accuracy,
        metric_name="accuracy",
        more_metrics={"top5_accuracy": top5_accuracy},
        target=round((published - MARGIN) / 100, 4),
        target_set_by=f"{table}: SGD or AdamW, the better one, {published} % on the test images, less {MARGIN:g} point",
        batch_size=BATCH_SIZE,
        num_train=NUM_PUBLISHED - NUM_VAL,
        num_train_paper=NUM_PUBLISHED,
        example=partial(examples.images, shape=(3, network.size, network.size), num_classes=num_classes),
        full_example=partial(examples.images, shape=(3, 32, 32), num_classes=num_classes),
        reference=f"{network.label} on CIFAR-{num_classes}{VARIANTS[variant]}: Krizhevsky (2009); the paper's {table}",
    )


def _specs() -> Iterator[WorkloadSpec]:
    """Yield the rows of the paper's tables 13a, 2 and 4."""
    for place, num_classes in enumerate((10, 100)):
        for name, network in NETWORKS.items():
            yield _spec(name, network, num_classes, "", network.plain[place], "Table 13a")
            yield _spec(name, network, num_classes, "cutout", network.cutout[place], "Table 2")
            if network.pretrained:
                yield _spec(name, network, num_classes, "pretrained", network.pretrained[place], "Table 4")


SPECS = tuple(_specs())
