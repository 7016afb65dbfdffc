"""Residual networks (He et al., 2016, "Deep Residual Learning for Image Recognition"), from torchvision's parts.

B images of H x W pixels, C classes. All end in a global average, so that any size of image will do. Where the last
stage sees one pixel of each of a few images, though, BatchNorm makes gradients explode with depth: of two images,
16 x 16 pixels are the least for ResNet-18, 32 x 32 for the deeper ones, and 64 x 64 for the one for ImageNet.
"""

from collections import OrderedDict

from torch import nn

from suite.workloads.networks.pretrained import load_pretrained

CIFAR_DEPTHS = (18, 50, 101)
WIDTHS = (16, 32, 64)  # He et al., section 4.2


def resnet_cifar(depth: int, num_classes: int, pretrained: bool = False) -> nn.Module:
    """Return torchvision's ResNet with a first layer for small images: 3 x 3, stride 1, and no max-pooling.

    The last stage sees an eighth of the image: 4 x 4 of 32 x 32 pixels, 8 x 8 of 64 x 64 (Tiny ImageNet). No dropout.
    11.2, 23.5 and 42.5 million parameters for 10 classes.

    Args:
        depth: 18, 50 or 101.
        num_classes: C.
        pretrained: Whether all but the first convolution and the head take torchvision's ImageNet weights, as in the
            paper's transfer study. What is drawn is the same.

    Returns:
        A module from ``[B, 3, H, W]`` to logits ``[B, C]``.

    Raises:
        ValueError: If the depth is another.
        UsageError: If the weights cannot be had.
    """  # noqa: DOC502
    from torchvision.models import get_model

    if depth not in CIFAR_DEPTHS:
        raise ValueError(f"{depth=} must be one of {CIFAR_DEPTHS}")
    model: nn.Module = get_model(f"resnet{depth}", num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    _initialize(model.conv1)
    model.maxpool = nn.Identity()
    if pretrained:
        load_pretrained(model, f"resnet{depth}", fresh=("conv1", "fc"))
    return model


def resnet_imagenet(num_classes: int = 1000) -> nn.Module:
    """Return torchvision's ResNet-50 as it is, for 224 x 224 pixels; the last stage sees 7 x 7 of them. No dropout.

    Args:
        num_classes: C.

    Returns:
        A module from ``[B, 3, H, W]`` to logits ``[B, C]``; 25.6 million parameters for 1,000 classes.
    """
    from torchvision.models import get_model

    model: nn.Module = get_model("resnet50", num_classes=num_classes)
    return model


def resnet8() -> nn.Module:
    """Return the CIFAR network of He et al., section 4.2, with 6n+2 layers for n=1, for grey images of ten classes.

    Three blocks of 16, 32 and 64 channels; 28 x 28 pixels become 28, 14 and 7. Where a block changes the width, its
    shortcut is a 1 x 1 convolution with BatchNorm (their option B), not padded with zeros (their option A, which
    torchvision's block does not have): 77,754 parameters instead of 75,002.

    Returns:
        A module from ``[B, 1, H, W]`` to logits ``[B, 10]``.
    """
    from torchvision.models.resnet import BasicBlock

    def block(inputs: int, outputs: int) -> nn.Module:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
        made: nn.Module = BasicBlock(inputs, outputs, stride=2, downsample=shortcut)
        return made

    first, second, third = WIDTHS
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, first, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(first),
            relu=nn.ReLU(),
            layer1=BasicBlock(first, first),
            layer2=block(first, second),
            layer3=block(second, third),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(third, 10),
        )
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            _initialize(module)
    return model


def _initialize(conv: nn.Conv2d) -> None:
    """Draw a convolution's weights as torchvision's ResNet does."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
