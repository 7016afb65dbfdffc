import pytest
import torch
from torch import nn

from optimizers.capture import Counts
from optimizers.factors import channel_squares, feature_squares, mean_squares, min_max, released_min_max, token_counts
from optimizers.rules import MORE_RULES, PAPER_RULES, RELEASED_RULES

TOLERANCE = 1e-12  # float64 sums of a few hundred terms in another order

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch: it copies its input

CONVOLUTIONS = {
    "plain": nn.Conv2d(3, 4, 3),
    "padding": nn.Conv2d(3, 4, 3, padding=1),
    "stride": nn.Conv2d(3, 4, 3, stride=2),
    "stride beyond the kernel": nn.Conv2d(3, 4, 2, stride=3),
    "dilation": nn.Conv2d(3, 4, 3, dilation=2, padding=2),
    "stride and dilation": nn.Conv2d(3, 4, (3, 2), stride=(3, 2), dilation=(2, 3), padding=(1, 2)),
    "groups": nn.Conv2d(4, 6, 3, groups=2, padding=1),
    "depthwise": nn.Conv2d(4, 8, 3, groups=4, bias=False),
    "same": nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)),
    "valid": nn.Conv2d(3, 4, 3, padding="valid"),
    "reflect": nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"),
    "replicate": nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="replicate", stride=2),
    "circular": nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular"),
    "pointwise": nn.Conv2d(3, 4, 1, stride=2),
}


def unfolded(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Return the im2col patches, shape [rows, C * K]."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = nn.functional.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
    patches = nn.functional.unfold(x, conv.kernel_size, dilation=conv.dilation, stride=conv.stride)
    return patches.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_conv_input_factor_equals_unfold(conv):
    conv = conv.double()
    x = torch.randn(5, conv.in_channels, 11, 9, dtype=torch.float64)
    patches = unfolded(conv, x)
    assert patches.shape[0] == conv(x)[:, 0].numel()
    torch.testing.assert_close(
        PAPER_RULES[nn.Conv2d].input_sum(conv, x), patches.square().sum(0), atol=0, rtol=TOLERANCE
    )


@pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_conv_views_follow_the_forward(conv):
    """With a one-hot weight, Σ_rows output² is the entry of H that the weight meets."""
    conv = conv.double()
    x = torch.randn(2, conv.in_channels, 11, 9, dtype=torch.float64)
    rule = PAPER_RULES[nn.Conv2d]
    sums = rule.input_sum(conv, x)
    h = nn.functional.pad(sums, (0, rule.sizes(conv)[0] - sums.numel()), value=1.0)
    left, right = rule.views(conv, h, torch.ones(conv.out_channels, dtype=torch.float64))["weight"]
    product = (left * right).reshape(conv.weight.shape)
    for index in [(0, 0, 0, 0), tuple(size - 1 for size in conv.weight.shape)]:
        with torch.no_grad():
            conv.weight.zero_()[index] = 1.0
        output = conv._conv_forward(x, conv.weight, None)[:, index[0]]
        torch.testing.assert_close(output.square().sum(), product[index], atol=0, rtol=TOLERANCE)


def test_conv_1d_3d_and_unbatched_inputs():
    rule = PAPER_RULES[nn.Conv1d]
    one, three = nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Conv3d(2, 3, 2, padding=1, padding_mode="replicate")
    x = torch.randn(4, 2, 7)
    patches = nn.functional.pad(x, (1, 1)).unfold(2, 3, 2)  # [B, C, T, K]
    torch.testing.assert_close(rule.input_sum(one, x), patches.square().sum((0, 2)).flatten())
    torch.testing.assert_close(rule.input_sum(one, x[0]), patches[0].square().sum(1).flatten())
    x = torch.randn(2, 2, 3, 4, 5)
    patches = nn.functional.pad(x, (1,) * 6, mode="replicate").unfold(2, 2, 1).unfold(3, 2, 1).unfold(4, 2, 1)
    torch.testing.assert_close(rule.input_sum(three, x), patches.square().sum((0, 2, 3, 4)).flatten())


def test_sums_over_rows():
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(feature_squares(x, 4), (x**2).sum((0, 1)))
    torch.testing.assert_close(feature_squares(x, 20), (x**2).sum(0).flatten())
    torch.testing.assert_close(channel_squares(x), (x**2).sum((0, 2)))
    torch.testing.assert_close(channel_squares(x[:, :, 0]), (x[:, :, 0] ** 2).sum(0))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
    ids=str,
)
def test_sums_are_float32_at_least(dtype, expected):
    x = torch.full((70_000, 1), 3.0, dtype=dtype)
    assert feature_squares(x, 1).dtype == expected
    assert feature_squares(x, 1).item() == 630_000  # out of reach of bfloat16 and float16


def test_mean_squares_append_the_homogeneous_coordinate():
    h, s = mean_squares(torch.tensor([2.0, 4.0]), torch.tensor([6.0]), 2, 3)
    assert h.tolist() == [1.0, 2.0, 1.0]
    assert s.tolist() == [3.0]


def test_token_counts():
    tokens = torch.tensor([[0, 2, 2], [3, 0, 2]])
    assert token_counts(tokens, 5, None, torch.float32).tolist() == [2, 0, 3, 1, 0]
    assert token_counts(tokens, 5, 2, torch.float64).tolist() == [2, 0, 0, 1, 0]


def test_min_max_by_segment():
    values = torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, 0.0, 0.0, 7.0])
    sizes = torch.tensor([3, 2, 2, 1])
    assert min_max(values, sizes).tolist() == [0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert min_max(values[:0], sizes[:0]).numel() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_min_max_takes_round_off_for_constant(dtype):
    eps = torch.finfo(dtype).eps
    sizes = torch.tensor([2])
    assert min_max(torch.tensor([1.0, 1 + 8 * eps], dtype=dtype), sizes).tolist() == [1.0, 1.0]
    assert min_max(torch.tensor([1.0, 1 + 16 * eps], dtype=dtype), sizes).tolist() == [0.0, 1.0]
    assert min_max(torch.tensor([1e-30, 3e-30], dtype=dtype), sizes).tolist() == [0.0, 1.0]


def test_released_min_max():
    sizes = torch.tensor([2, 3])
    values = torch.tensor([1e-6, 2e-6, torch.inf, -torch.inf, 0.5], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.5, 1 / (1 + 1e-6), 0.0, 0.5 / (1 + 1e-6)], dtype=torch.float64)
    torch.testing.assert_close(released_min_max(values, sizes), expected)
    assert released_min_max(torch.tensor([torch.nan, 1.0]), sizes[:1]).isnan().any()


def test_released_norm_factors():
    norm, rule = nn.BatchNorm2d(3), RELEASED_RULES[nn.modules.batchnorm._BatchNorm]
    h, s = torch.randn(4, 3, 2, 5), torch.randn(4, 3, 2, 5)
    factors = rule.finish(rule.input_sum(norm, h), rule.grad_sum(norm, s), Counts(rows=40, samples=4), 2)
    energy = ((h / 10**2).sum((0, 2, 3)) ** 2).sum()
    torch.testing.assert_close(factors[0], torch.stack([energy, torch.tensor(3.0)]) / 16)
    torch.testing.assert_close(factors[1], s.sum((0, 2, 3)) ** 2 / 4)


def test_released_layer_norm_factors():
    norm, rule = nn.LayerNorm(5), RELEASED_RULES[nn.LayerNorm]
    h, s = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    factors = rule.finish(rule.input_sum(norm, h), rule.grad_sum(norm, s), Counts(rows=12, samples=4), 2)
    energy = ((h / 5**2).sum((0, 2)) ** 2).sum()
    torch.testing.assert_close(factors[0], torch.stack([energy, torch.tensor(3.0)]) / 16)
    torch.testing.assert_close(factors[1], s.sum((0, 1)) ** 2 / 4)


def test_released_conv_pools_groups():
    conv = nn.Conv2d(4, 6, 3, groups=2)
    x = torch.randn(2, 4, 5, 5)
    pooled = PAPER_RULES[nn.Conv2d].input_sum(conv, x).view(2, -1).mean(0)
    torch.testing.assert_close(RELEASED_RULES[nn.Conv2d].input_sum(conv, x), pooled)
    assert RELEASED_RULES[nn.Conv2d].sizes(conv) == (2 * 9 + 1, 6)


def test_transposed_convolutions_have_no_rule():
    tables = {**PAPER_RULES, **RELEASED_RULES, **MORE_RULES}
    assert not isinstance(nn.ConvTranspose2d(2, 2, 3), tuple(tables))
