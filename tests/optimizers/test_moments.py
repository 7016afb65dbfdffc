import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from optimizers.moments import _is_shift_invariant, homogeneous, num_patches, patch_moments, second_moments
from optimizers.rules import conv_geometry

CONVOLUTIONS = {
    # options of a convolution with 4 channels: whether products of shifted images serve
    "3x3": ({"padding": 1}, True),
    "wider padding": ({"padding": 3}, True),
    "3x5": ({"kernel_size": (3, 5), "padding": (1, 2)}, True),
    "dilated": ({"padding": 2, "dilation": 2}, True),
    "even kernel": ({"kernel_size": 2, "padding": 1}, True),
    "same": ({"padding": "same"}, True),
    "even kernel, same": ({"kernel_size": 2, "padding": "same"}, False),
    "too little padding": ({"kernel_size": 5, "padding": 1}, False),
    "no padding": ({}, False),
    "strided": ({"padding": 1, "stride": 2}, False),
    "circular": ({"padding": 1, "padding_mode": "circular"}, False),
    "1x1": ({"kernel_size": 1}, True),
    "1x1, strided": ({"kernel_size": 1, "stride": 2}, False),
    "grouped": ({"padding": 1, "groups": 2}, True),
}


@pytest.mark.parametrize("size", [(7, 6), (5, 5), (3, 4)], ids=str)
@pytest.mark.parametrize(("options", "is_shifted"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_patch_moments(options, is_shifted, size):
    """Against im2col by torch."""
    conv = nn.Conv2d(4, 6, **{"kernel_size": 3, **options})
    geometry = conv_geometry(conv)
    assert _is_shift_invariant(geometry) == is_shifted
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = F.pad(x, tuple(geometry["padding"]), mode=mode)
    if min(padded.shape[2] - conv.kernel_size[0], padded.shape[3] - conv.kernel_size[1]) < 0:
        pytest.skip("the kernel does not fit")
    columns = F.unfold(padded, conv.kernel_size, stride=conv.stride, dilation=conv.dilation)
    patches = columns.transpose(1, 2).reshape(-1, conv.groups, columns.shape[1] // conv.groups)
    expected = torch.einsum("ngi,ngj->gij", patches, patches)
    torch.testing.assert_close(patch_moments(x, geometry, conv.groups), expected)
    assert num_patches(x, geometry) == len(patches)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_second_moments(dtype):
    rows = torch.randn(7, 6).to(dtype)
    moments = second_moments(rows, groups=2)
    wide = rows.to(moments.dtype)
    assert moments.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(moments, torch.stack([wide[:, :3].T @ wide[:, :3], wide[:, 3:].T @ wide[:, 3:]]))


def test_the_homogeneous_coordinate():
    x = torch.randn(5, 3)
    extended = torch.cat([x, torch.ones(5, 1)], dim=1)
    found = homogeneous(second_moments(x), x.sum(0), 5)
    torch.testing.assert_close(found, (extended.T @ extended).unsqueeze(0))
