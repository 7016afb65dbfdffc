"""ImageNet-1k and Tiny ImageNet with the paper's networks: standard ResNet-50 on both, Swin-B on the smaller."""

from functools import partial
from typing import Any

from torch.nn import functional as F  # noqa: N812

from suite.workloads import examples
from suite.workloads.base import WorkloadSpec
from suite.workloads.images import imagenet, tiny_imagenet
from suite.workloads.networks.resnet import resnet_imagenet
from suite.workloads.networks.transformers import swin_b_tiny_imagenet
from suite.workloads.tasks import accuracy, top5_accuracy

_CLASSIFICATION: dict[str, Any] = {
    "loss": F.cross_entropy,
    "metric": accuracy,
    "metric_name": "accuracy",
    "more_metrics": {"top5_accuracy": top5_accuracy},
    "batch_size": 256,
    "eval_batch_size": 256,
    # the network takes any size: this one leaves its last stage 2 x 2 pixels, enough for BatchNorm with few images
    "example": partial(examples.images, shape=(3, 64, 64), num_classes=200),
}

NUM_TINY = tiny_imagenet.NUM_CLASSES * tiny_imagenet.NUM_PER_CLASS  # published training images

SPECS = (
    WorkloadSpec(
        name="imagenet_resnet50",
        full_example=partial(examples.images, shape=(3, 224, 224), num_classes=1000),
        load=imagenet.load_imagenet,
        num_train=imagenet.NUM_IMAGES["train"] - imagenet.NUM_VAL,
        num_train_paper=imagenet.NUM_IMAGES["train"],
        build_model=resnet_imagenet,
        target=0.754,
        target_set_by="SGD 76.4 % (Goyal et al. 2017, as the paper's Table 3 prints it), less 1 point",
        reference="ResNet-50 on ImageNet-1k, in folders: Russakovsky et al. (2015); the paper's Table 3",
        **_CLASSIFICATION,
    ),
    WorkloadSpec(
        name="tiny_imagenet_resnet50",
        load=tiny_imagenet.load_tiny_imagenet,
        num_train=NUM_TINY - tiny_imagenet.NUM_VAL,
        num_train_paper=NUM_TINY,
        build_model=partial(resnet_imagenet, num_classes=200),
        target=0.5206,
        target_set_by="Table 12: Adam 53.06 % on the test images, less 1 point",
        reference="ResNet-50 on Tiny ImageNet: Le & Yang (2015); the paper's Table 12",
        **_CLASSIFICATION,
    ),
    WorkloadSpec(
        name="tiny_imagenet_swin_b",
        load=tiny_imagenet.load_tiny_imagenet,
        num_train=NUM_TINY - tiny_imagenet.NUM_VAL,
        num_train_paper=NUM_TINY,
        build_model=swin_b_tiny_imagenet,
        target=0.4711,
        target_set_by="Table 12: AdamW 48.11 % on the test images, less 1 point",
        reference="Swin-B on Tiny ImageNet: Le & Yang (2015); the paper's Table 12",
        **_CLASSIFICATION,
    ),
)
