"""Convolutional networks but for the residual ones, and the perceptron of the trajectories.

B images of H x W pixels, C classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from suite.workloads.networks.pretrained import load_pretrained

MOBILENET_KEPT_SIZE = ("features.0.0", "features.2.block.1.0")  # convolutions whose stride of 2 becomes 1


def densenet121_cifar(num_classes: int, pretrained: bool = False) -> nn.Module:
    """Return torchvision's DenseNet-121 with a first layer for small images: 3 x 3, stride 1, and no max-pooling.

    Huang et al. (2017), "Densely Connected Convolutional Networks". Blocks see 32, 16, 8 and 4 pixels a side of
    32 x 32; the least image is 8 x 8. No dropout (torchvision's default). 6.96 million parameters for 10 classes.

    Args:
        num_classes: C.
        pretrained: Whether all but the first convolution, whose size is another, and the head take torchvision's
            ImageNet weights. What is drawn is the same.

    Returns:
        A module from ``[B, 3, H, W]`` to logits ``[B, C]``.

    Raises:
        UsageError: If the weights cannot be had.
    """  # noqa: DOC502
    from torchvision.models import get_model

    model: nn.Module = get_model("densenet121", num_classes=num_classes)
    features = model.get_submodule("features")
    first = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight)  # as torchvision
    features.conv0, features.pool0 = first, nn.Identity()
    if pretrained:
        load_pretrained(model, "densenet121", fresh=("features.conv0", "classifier"))
    return model


def mobilenetv3_cifar(num_classes: int, pretrained: bool = False) -> nn.Module:
    """Return torchvision's MobileNetV3-Large with the first two of its five halvings left out, for small images.

    Howard et al. (2019), "Searching for MobileNetV3". The convolutions keep their sizes, the first one 3 x 3 and the
    first depthwise one with a stride of 2 take stride 1: 32 x 32 pixels end at 4 x 4. Dropout 0.2 before the last
    layer, and BatchNorm with momentum 0.01 (torchvision's defaults). Its gates are a :class:`HardSigmoid`. 4.2 million
    parameters for 10 classes.

    Args:
        num_classes: C.
        pretrained: Whether all but the last layer take torchvision's ImageNet weights. What is drawn is the same.

    Returns:
        A module from ``[B, 3, H, W]`` to logits ``[B, C]``.

    Raises:
        UsageError: If the weights cannot be had.
    """  # noqa: DOC502
    from torchvision.models import get_model
    from torchvision.ops import SqueezeExcitation

    model: nn.Module = get_model("mobilenet_v3_large", num_classes=num_classes)
    for name in MOBILENET_KEPT_SIZE:
        conv = model.get_submodule(name)
        assert isinstance(conv, nn.Conv2d) and conv.stride == (2, 2)
        conv.stride = (1, 1)
    for module in model.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = HardSigmoid()
    if pretrained:
        load_pretrained(model, "mobilenet_v3_large", fresh=("classifier.3",))
    return model


def mnist_cnn() -> nn.Module:
    """Return two convolutions and two linear layers (the paper's Fig 12 D, which gives no sizes).

    Small, as the true Fisher diagonal takes a gradient a sample: 5 x 5 convolutions of 4 and 8 channels, each pooled to
    half of its size, then 128 to 32 to 10: 104 + 808 + 4,128 + 330 = 5,370 parameters.

    Returns:
        A module from ``[B, 1, 28, 28]`` to logits ``[B, 10]``.
    """
    return nn.Sequential(
        nn.Conv2d(1, 4, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def mlp() -> nn.Module:
    """Return the two-layer perceptron of the paper's Fig 1, whose first weight matrix lies in a plane (appendix C).

    Of two inputs, that leaves it one hidden unit: ``[0].weight`` of shape ``[1, 2]``. The unit is a tanh, as a ReLU
    alone in its layer may start without a gradient. 9 parameters.

    Returns:
        A module from ``[B, 2]``, the first two principal components of Iris, to logits ``[B, 3]``.
    """
    return nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 3))


class HardSigmoid(nn.Module):
    """The gate of MobileNetV3, min(max(x + 3, 0), 6) / 6, with a second derivative.

    torch's own has none ("derivative for aten::hardsigmoid_backward is not implemented"), which AdaHessian needs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the gate.

        Args:
            x: Any shape.

        Returns:
            The same shape, in [0, 1].
        """
        return F.relu6(x + 3) / 6
