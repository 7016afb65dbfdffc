import copy
import pickle
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import optimizers
from suite.workloads.networks.convolutional import HardSigmoid, densenet121_cifar, mobilenetv3_cifar
from suite.workloads.networks.resnet import resnet8, resnet_cifar, resnet_imagenet
from suite.workloads.networks.transformers import (
    ChannelNorm,
    cct_2_3x2,
    focalnet_cifar,
    swin_b_tiny_imagenet,
    swin_t_cifar,
)

from .catalogue import NETWORKS, Network

QUICK = [network for network in NETWORKS if not network.is_big]
TOLERANCE = {"rtol": 2e-3, "atol": 1e-6}  # float32 sums in another order


def of(networks: list[Network] | tuple[Network, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("network", networks, ids=lambda network: network.name)


def abstractly(network: Network) -> nn.Module:
    """Build without memory and time; vit-pytorch's CCT cannot be, as it reads values while it is built."""
    if network.name == "cct":
        return network.build()
    with torch.device("meta"):
        return network.build()


def batch(network: Network) -> Tensor:
    """Images of at least 8 x 8: two samples of one pixel each, normalized by BatchNorm, have no gradients."""
    channels, *size = network.smallest
    return torch.randn(2, channels, *(max(side, 8) for side in size))


@of(NETWORKS)
def test_it_has_as_many_parameters_as_the_literature_says(network):
    assert sum(param.numel() for param in abstractly(network).parameters()) == network.num_parameters


@of(NETWORKS)
def test_it_takes_its_smallest_input(network):
    model = abstractly(network).train()
    device = next(model.parameters()).device
    assert model(torch.zeros(2, *network.smallest, device=device)).shape == (2, network.num_classes)


@pytest.mark.parametrize("name", ["densenet121", "swin_t", "swin_b", "focalnet", "cct", "small_vit", "mnist_cnn"])
def test_a_smaller_input_fails(name):
    network = next(network for network in NETWORKS if network.name == name)
    model = abstractly(network)
    channels, height, width = network.smallest
    with pytest.raises((RuntimeError, AssertionError, ValueError)):
        model(torch.zeros(2, channels, height - 1, width - 1, device=next(model.parameters()).device))


@of([network for network in QUICK if network.num_parameters < 1e6 or network.name == "mobilenetv3"])
def test_the_same_seed_gives_the_same_weights(network):
    torch.manual_seed(1)
    first = network.build()
    torch.manual_seed(1)
    again, other = network.build(), network.build()
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


@of(NETWORKS)
def test_it_pickles_as_a_function(network):
    restored = pickle.loads(pickle.dumps(network.build))
    assert pickle.dumps(restored) == pickle.dumps(network.build)


def test_a_model_survives_a_deep_copy():
    model = focalnet_cifar(10).eval()
    images = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(copy.deepcopy(model)(images), model(images))


@pytest.mark.parametrize("depth", [0, 34, "18"])
def test_another_depth_is_refused(depth):
    with pytest.raises(ValueError, match=r"must be one of \(18, 50, 101\)"):
        resnet_cifar(depth, 10)


STAGES = [
    pytest.param(
        partial(resnet_cifar, 18, 10), (3, 32, 32), "layer1 layer2 layer3 layer4", (32, 16, 8, 4), id="resnet18"
    ),
    pytest.param(
        partial(resnet_cifar, 50, 10), (3, 64, 64), "layer1 layer2 layer3 layer4", (64, 32, 16, 8), id="resnet50"
    ),
    pytest.param(resnet_imagenet, (3, 224, 224), "layer1 layer2 layer3 layer4", (56, 28, 14, 7), id="resnet_imagenet"),
    pytest.param(resnet8, (1, 28, 28), "layer1 layer2 layer3", (28, 14, 7), id="resnet8"),
    pytest.param(
        partial(densenet121_cifar, 10),
        (3, 32, 32),
        "features.transition1.norm features.transition2.norm features.transition3.norm features.norm5",
        (32, 16, 8, 4),
        id="densenet121",
    ),
    pytest.param(
        partial(mobilenetv3_cifar, 10),
        (3, 32, 32),
        "features.0 features.3 features.6 features.12 features.16",
        (32, 32, 16, 8, 4),
        id="mobilenetv3",
    ),
    pytest.param(
        partial(focalnet_cifar, 10), (3, 32, 32), "layers.0 layers.1 layers.2 layers.3", (16, 8, 4, 2), id="focalnet"
    ),
]


@pytest.mark.parametrize(("build", "shape", "stages", "sizes"), STAGES)
def test_images_shrink_as_documented(build, shape, stages, sizes):
    with torch.device("meta"):
        model = build()
    seen = {}
    for name in stages.split():
        model.get_submodule(name).register_forward_hook(lambda m, h, out, name=name: seen.update({name: out.shape[2:]}))
    model(torch.empty(2, *shape, device="meta"))
    assert seen == {name: (size, size) for name, size in zip(stages.split(), sizes, strict=True)}


@pytest.mark.parametrize(
    ("build", "size"), [(partial(swin_t_cifar, 10), 32), (swin_b_tiny_imagenet, 64)], ids=["t", "b"]
)
def test_swin_has_several_shifted_windows_in_two_stages(build, size):
    with torch.device("meta"):
        model = build()
    blocks = [stage.blocks[1] for stage in model.layers]
    assert [block.input_resolution for block in blocks] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert [block.window_size for block in blocks] == [(4, 4), (4, 4), (4, 4), (2, 2)]
    assert [block.shift_size for block in blocks] == [(2, 2), (2, 2), (0, 0), (0, 0)]
    assert model.patch_embed.img_size == (size, size)


def test_cct_sees_sixty_four_tokens():
    assert cct_2_3x2(10).classifier.positional_emb.shape == (1, 64, 128)


def test_the_norm_of_focalnet_is_the_one_of_timm():
    from timm.layers import LayerNorm2d

    ours, theirs = ChannelNorm(4), LayerNorm2d(4, eps=1e-5)
    images = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(ours(images), theirs(images))


def test_the_gate_of_mobilenet_is_the_one_of_torch():
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(HardSigmoid()(x), F.hardsigmoid(x))


def ruled(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    kinds = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)
    return ((name, module) for name, module in model.named_modules() if isinstance(module, kinds))


@of(QUICK)
def test_what_hooks_see_of_each_layer_makes_its_gradient(network):
    """A layer used functionally, or by more than its hooks see, would have another gradient."""
    model, seen, used = network.build().train(), {}, set()

    def on_forward(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        assert module not in used, "used twice"
        used.add(module)
        if isinstance(module, nn.LayerNorm):  # else AdaFisher's rule mixes features and positions
            assert args[0].shape[-1:] == module.normalized_shape
        inputs = args[0].detach().clone()
        output.register_hook(lambda grad: seen.update({module: (inputs, grad)}))

    handles = [module.register_forward_hook(on_forward) for _, module in ruled(model)]
    F.cross_entropy(model(batch(network)), torch.tensor([0, 1])).backward()
    for handle in handles:
        handle.remove()
    for name, module in ruled(model):
        inputs, grad = seen[module]
        params = list(module.parameters())
        replayed = torch.autograd.grad(module(inputs), params, grad)
        for mine, whole in zip(replayed, params, strict=True):
            torch.testing.assert_close(mine, whole.grad, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


IDENTITIES = {"swin_t": "relative_position_bias_table", "cct": "positional_emb"}


@of([
    network for network in QUICK if network.name in {"resnet8", "mobilenetv3", "swin_t", "focalnet", "cct", "small_vit"}
])
def test_adafisher_has_a_rule_for_all_but_positions(network, recwarn):
    model = network.build()
    spec = optimizers.REGISTRY["adafisher"]
    optimizer = spec.build(model, spec.configure())
    F.cross_entropy(model(batch(network)), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert all(param.isfinite().all() for param in model.parameters())
    named = {name for warning in recwarn for name in str(warning.message).partition(": ")[2].split(", ")}
    positions = IDENTITIES.get(network.name)
    assert named == {name for name, _ in model.named_parameters() if positions and name.endswith(positions)}


@of([
    network for network in QUICK if network.name in {"resnet8", "mobilenetv3", "swin_t", "focalnet", "cct", "small_vit"}
])
def test_gradients_have_gradients(network):
    model = network.build()
    params = list(model.parameters())
    loss = F.cross_entropy(model(batch(network)), torch.tensor([0, 1]))
    grads = torch.autograd.grad(loss, params, create_graph=True)
    seconds = torch.autograd.grad(sum(grad.square().sum() for grad in grads), params, allow_unused=True)
    assert all(second.isfinite().all() for second in seconds if second is not None)
    assert any(second.abs().max() > 0 for second in seconds if second is not None)
