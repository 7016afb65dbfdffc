"""Every layer type and option of AdaFisher's layer-support table, against the oracle."""

import pytest
import torch
from torch import nn

from tests.optimizers.test_adafisher import (
    FLOAT32_TOLERANCE,
    LABELS,
    NETS,
    TOLERANCE,
    Net,
    check_oracle_forward,
    compare,
    conv_net,
    tied_embedding,
)
from tests.oracles.adafisher import PaperNumerics

pytestmark = pytest.mark.filterwarnings(
    "ignore:these parameters take the identity factor", "ignore:Using padding='same' with even kernel"
)

CONVOLUTIONS = {  # tuples are cut to the number of spatial dimensions
    "plain": {},
    "without-bias": {"padding": "valid", "bias": False},
    "grouped": {"padding": 1, "groups": 2},
    "depthwise": {"padding": 1, "groups": 4, "out_channels": 8, "bias": False},
    "stride-beyond-kernel": {"kernel_size": (1, 2, 1), "stride": (2, 3, 2), "padding": 1},
    "dilation-2": {"dilation": 2, "padding": (2, 1, 2)},
    "stride-dilation-groups": {"dilation": (2, 1, 1), "stride": (2, 1, 2), "padding": 2, "groups": 2},
    "same": {"kernel_size": (4, 3, 2), "padding": "same", "dilation": (1, 2, 1)},
    "reflect-same": {"padding": "same", "padding_mode": "reflect", "groups": 2},
    "replicate": {"padding": (2, 1, 2), "padding_mode": "replicate", "stride": (2, 2, 1)},
    "circular": {"padding": (1, 2, 1), "padding_mode": "circular"},
}
CONV_NETS = {
    f"conv{n}d-{name}": conv_net(kind, **{k: v[:n] if isinstance(v, tuple) else v for k, v in options.items()})
    for n, kind in enumerate([nn.Conv1d, nn.Conv2d, nn.Conv3d], start=1)
    for name, options in CONVOLUTIONS.items()
}


def between(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), norm, nn.ReLU(), nn.Linear(6, LABELS))


def first(norm: nn.Module, num_features: int) -> nn.Sequential:
    return nn.Sequential(norm, nn.ReLU(), nn.Flatten(), nn.Linear(num_features, LABELS))


def in_eval_mode(norm: nn.Module) -> nn.Module:
    """With running statistics that are not those of its input; the model around it trains."""
    for buffer in (norm.running_mean, norm.running_var) if norm.track_running_stats else ():
        buffer.uniform_(0.5, 2)
    return norm.eval()


NORM_NETS = {
    "batchnorm": Net(lambda: between(nn.BatchNorm1d(6)), (5,)),
    "batchnorm-on-signals": Net(lambda: first(nn.BatchNorm1d(4), 24), (4, 6)),
    "batchnorm-on-volumes": Net(lambda: first(nn.BatchNorm3d(4), 48), (4, 3, 2, 2)),
    "batchnorm-without-affine": Net(lambda: between(nn.BatchNorm1d(6, affine=False)), (5,)),
    "batchnorm-without-running-statistics": Net(lambda: between(nn.BatchNorm1d(6, track_running_stats=False)), (5,)),
    "batchnorm-in-eval": Net(lambda: between(in_eval_mode(nn.BatchNorm1d(6))), (5,)),
    "batchnorm-in-eval-on-images": Net(lambda: first(in_eval_mode(nn.BatchNorm2d(4)), 24), (4, 3, 2)),
    "batchnorm-in-eval-without-running-statistics": Net(
        lambda: between(in_eval_mode(nn.BatchNorm1d(6, track_running_stats=False))), (5,)
    ),
    "layernorm": Net(lambda: between(nn.LayerNorm(6)), (5,)),
    "layernorm-without-bias": Net(lambda: between(nn.LayerNorm(6, bias=False)), (4, 5)),
    "layernorm-over-two-axes": Net(lambda: first(nn.LayerNorm([4, 5]), 20), (4, 5)),
}
MORE_NETS = {
    "groupnorm": Net(lambda: between(nn.GroupNorm(2, 6)), (5,)),
    "groupnorm-on-images": Net(lambda: first(nn.GroupNorm(2, 4), 24), (4, 3, 2)),
    "rmsnorm": Net(lambda: between(nn.RMSNorm(6)), (4, 5)),
    "rmsnorm-over-two-axes": Net(lambda: first(nn.RMSNorm([4, 5], eps=1e-3), 20), (4, 5)),
    "embedding": Net(lambda: nn.Sequential(nn.Embedding(8, 6), nn.Linear(6, LABELS)), (3,), num_tokens=8),
    "embedding-with-padding": Net(lambda: nn.Sequential(nn.Embedding(8, 6, 2), nn.Linear(6, LABELS)), (3,), 8),
    "embedding-of-one-token": Net(lambda: nn.Sequential(nn.Embedding(8, 6), nn.Linear(6, LABELS)), (), num_tokens=6),
    "tied-embedding": NETS["tied-embedding"],
    "tied-embedding-with-padding": Net(lambda: tied_embedding(padding_idx=-8), (3,), num_tokens=8),
}
LAYER_NETS = CONV_NETS | NORM_NETS | MORE_NETS


@pytest.mark.parametrize("net", LAYER_NETS.values(), ids=LAYER_NETS)
def test_oracle_forward_is_the_models(net):
    check_oracle_forward(net)


@pytest.mark.parametrize("net", (CONV_NETS | NORM_NETS).values(), ids=CONV_NETS | NORM_NETS)
def test_layers_with_a_rule_in_the_paper(net):
    assert compare(net) <= TOLERANCE


@pytest.mark.parametrize("net", MORE_NETS.values(), ids=MORE_NETS)
def test_layers_with_a_rule_of_our_own(net):
    assert compare(net, PaperNumerics(layers="all")) <= TOLERANCE


@pytest.mark.parametrize(
    ("layers", "net"),
    [
        ("paper", "groupnorm"),
        ("paper", "rmsnorm"),
        ("paper", "embedding-with-padding"),
        ("all", "batchnorm"),
        ("all", "conv1d-grouped"),
        ("dense", "batchnorm-on-volumes"),
        ("dense", "layernorm-over-two-axes"),
        ("dense", "groupnorm-on-images"),
        ("dense", "conv3d-grouped"),
    ],
)
def test_choice_of_layers(layers, net):
    assert compare(LAYER_NETS[net], PaperNumerics(layers=layers)) <= TOLERANCE


@pytest.mark.parametrize("net", ["groupnorm-on-images", "rmsnorm", "tied-embedding-with-padding"])
def test_float32_model(net):
    assert compare(LAYER_NETS[net], PaperNumerics(layers="all"), dtype=torch.float32) <= FLOAT32_TOLERANCE
