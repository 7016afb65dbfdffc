"""Transformers for small images, of timm and vit-pytorch, whose layers are all modules that hooks see.

B images, C classes. torchvision's Swin is not used, as it hands its weights to a function: hooks on
its layers are silent.
"""

import torch
from torch import Tensor, nn


def swin_t_cifar(num_classes: int) -> nn.Module:
    """Return timm's Swin-T for 32 x 32 pixels: patches of 2 x 2, windows of 4 x 4.

    Liu et al. (2021), "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows". The stages see 16, 8,
    4 and 2 patches a side; the first two have several windows and shift them, the last two have one of the whole image
    (as the last of the original, of 7 x 7, does). No dropout; stochastic depth 0.1 (timm's default). 27.5 million
    parameters for 10 classes.

    Args:
        num_classes: C.

    Returns:
        A module from ``[B, 3, 32, 32]`` to logits ``[B, C]``.
    """
    from timm.models.swin_transformer import SwinTransformer

    model: nn.Module = SwinTransformer(img_size=32, patch_size=2, window_size=4, num_classes=num_classes)
    return model


def swin_b_tiny_imagenet(num_classes: int = 200) -> nn.Module:
    """Return timm's Swin-B for 64 x 64 pixels: patches of 4 x 4, windows of 4 x 4.

    As :func:`swin_t_cifar` in the patches that its stages see, 16, 8, 4 and 2 a side, and in its stochastic depth, 0.1
    (timm's default; Liu et al. train Swin-B with 0.5). No dropout. 86.9 million parameters for 200 classes.

    Args:
        num_classes: C.

    Returns:
        A module from ``[B, 3, 64, 64]`` to logits ``[B, C]``.
    """
    from timm.models.swin_transformer import SwinTransformer

    model: nn.Module = SwinTransformer(
        img_size=64,
        patch_size=4,
        window_size=4,
        embed_dim=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        num_classes=num_classes,
    )
    return model


def focalnet_cifar(num_classes: int) -> nn.Module:
    """Return timm's FocalNet-T with small receptive fields, its patches of 2 x 2 instead of 4 x 4 pixels.

    Yang et al. (2022), "Focal Modulation Networks". The stages see 16, 8, 4 and 2 patches a side of 32 x 32 pixels; the
    least image is 16 x 16. Its normalization is a :class:`ChannelNorm`: the same numbers as timm's, where AdaFisher
    sees them right. No dropout; stochastic depth 0.1 (timm's default). 27.7 million parameters for 10 classes.

    Args:
        num_classes: C.

    Returns:
        A module from ``[B, 3, H, W]`` to logits ``[B, C]``.
    """
    from timm.models.focalnet import FocalNet

    model: nn.Module = FocalNet(num_classes=num_classes, norm_layer=ChannelNorm)
    patches = nn.Conv2d(3, 96, 2, stride=2)
    assert patches.bias is not None
    nn.init.trunc_normal_(patches.weight, std=0.02)  # as timm
    nn.init.zeros_(patches.bias)
    model.get_submodule("stem").proj = patches
    return model


def cct_2_3x2(num_classes: int) -> nn.Module:
    """Return vit-pytorch's CCT-2/3x2 for 32 x 32 pixels: two 3 x 3 convolutions, two layers of two heads.

    Hassani et al. (2021), "Escaping the Big Data Paradigm with Compact Transformers". 64 tokens of width 128, an MLP as
    wide, positions learned. Dropout 0.1 of the attention and none else, stochastic depth 0.1 (vit-pytorch's defaults,
    and theirs). 0.28 million parameters for 10 classes.

    Args:
        num_classes: C.

    Returns:
        A module from ``[B, 3, 32, 32]`` to logits ``[B, C]``.
    """
    from vit_pytorch.cct import cct_2

    model: nn.Module = cct_2(
        img_size=32, n_conv_layers=2, kernel_size=3, positional_embedding="learnable", num_classes=num_classes
    )
    return model


def small_vit() -> nn.Module:
    """Return vit-pytorch's SimpleViT for grey images of 28 x 28 pixels and ten classes, quick on a CPU.

    Beyer et al. (2022), "Better plain ViT baselines for ImageNet-1k": positions fixed, tokens averaged. 16 patches of
    7 x 7, width 64, four layers of four heads, an MLP of 128. No dropout, no stochastic depth (it has none).

    Returns:
        A module from ``[B, 1, 28, 28]`` to logits ``[B, 10]``.
    """
    from vit_pytorch.simple_vit import SimpleViT

    model: nn.Module = SimpleViT(
        image_size=28, patch_size=7, num_classes=10, dim=64, depth=4, heads=4, mlp_dim=128, channels=1, dim_head=16
    )
    return model


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of images.

    timm's ``LayerNorm2d`` is a LayerNorm that takes channels in the second dimension: AdaFisher, whose rule takes them
    from the last, gives it the identity factor. Here they are moved outside of the layer.

    Args:
        channels: Of the images.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(self, channels: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-5, device=device, dtype=dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Normalize each position.

        Args:
            images: Shape ``[B, channels, H, W]``.

        Returns:
            The same shape.
        """
        normalized: Tensor = self.norm(images.permute(0, 2, 3, 1))
        return normalized.permute(0, 3, 1, 2)
