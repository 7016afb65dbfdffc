"""The known faults of AdaFisher's released code, by their numbers in the project's list: ours has none of them."""

import copy
import gc
from itertools import accumulate

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

from optimizers import AdaFisher
from tests.gloo import spawn

DAMPING = 1e-3  # the default

pytestmark = pytest.mark.filterwarnings("ignore:these parameters take the identity factor")


def batch():
    """Features differ in scale, lest H' be noise."""
    return torch.randn(8, 12).double() * torch.linspace(0.5, 2, 12).double(), torch.randint(3, (8,))


def train(model, *batches, optimizer=None, **options):
    """Take a step on each batch; labels ask for the cross-entropy, real numbers v for mean(v · output): N s = v."""
    optimizer = optimizer or AdaFisher(model, **options)
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        loss = (output * y).sum(-1).mean() if y.is_floating_point() else F.cross_entropy(output, y)
        loss.backward()
        optimizer.step()
    return optimizer


def factors_of(optimizer):
    return optimizer.state_dict()["adafisher"]["factors"]


def min_max(factor):
    return (factor - factor.min()) / (factor.max() - factor.min())


def linear_fisher(factors, damping=DAMPING):
    """Return F̃ of the weight of a Linear with a bias."""
    return torch.outer(min_max(factors["S"]), min_max(factors["H"])[:-1]) + damping


def same(actual, expected, rtol=1e-12):  # float64 sums in another order
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol)


def mlp():
    return nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3)).double()


class Backwards(nn.Module):
    """Registers its layers in the opposite order of their use."""

    def __init__(self):
        super().__init__()
        self.last, self.second, self.first = nn.Linear(12, 3), nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


def transformer():
    """The bias of the attention's output is as large as the bias of the norm behind it."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (3, 4)), layer, nn.Flatten(), Backwards()).double()


class Tokens(nn.Module):
    """A class token before the others, and positions: parameters of no layer."""

    def __init__(self):
        super().__init__()
        self.cls, self.pos = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(1, 4, 4))

    def forward(self, x):
        return torch.cat([self.cls.expand(len(x), 1, 4), x.unflatten(1, (3, 4))], 1) + self.pos


def test_a01_the_average_is_eq_3():
    """The old factor was weighed by 0.1 γ and the new by 0.01 γ, so that H settled at 1/115 of its value."""
    model, x, v = nn.Linear(4, 3).double(), torch.randn(20, 8, 4).double(), torch.randn(20, 8, 3).double()
    factors = factors_of(train(model, *zip(x, v, strict=True), gamma=0.3))[""]
    weights = 0.3 * 0.7 ** torch.arange(20, dtype=torch.float64).flip(0)
    same(factors["H"], weights @ F.pad(x, (0, 1), value=1.0).square().mean(1))  # the bias's: Σ weights = 0.9992
    same(factors["S"], weights @ v.square().mean(1))


def test_a02_the_average_is_normalized_last():
    """New factors were normalized before the average, which then shrank them: F̃ never came near 1 + λ."""
    model, (x, y) = nn.Linear(12, 3).double(), batch()
    optimizer = train(model, *[(3 * x, y)] * 50)
    fisher = optimizer.fisher_diag(model.weight)
    assert (fisher.min().item(), fisher.max().item()) == (DAMPING, 1 + DAMPING)
    same(factors_of(optimizer)[""]["H"][:12], (3 * x).square().mean(0))


@pytest.mark.parametrize(("numerics", "low", "high"), [("paper", 100, 1001.01), ("released", 1, 1.08)])
def test_a03_the_fisher_diagonal_does_not_collapse(numerics, low, high):
    """After some 300 steps F̃ was constant within 8 %, the method momentum SGD; one preset is so on purpose."""
    body = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 6)
    model = nn.Sequential(*body, nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    images = ((torch.randn(8, 1, 8, 8), torch.randint(3, (8,))) for _ in range(400))
    optimizer = train(model, *images, numerics=numerics)
    fisher = torch.cat([optimizer.fisher_diag(param).flatten() for param in model.parameters()])
    assert low < (fisher.max() / fisher.min()).item() < high


MOVING = {
    "batchnorm1d": lambda: nn.Sequential(nn.Linear(12, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 3)),
    "groupnorm": lambda: nn.Sequential(nn.Linear(12, 6), nn.GroupNorm(2, 6), nn.Linear(6, 6), nn.Linear(6, 3)),
    "vit": lambda: nn.Sequential(Tokens(), nn.Linear(4, 8), nn.LayerNorm(8), nn.Flatten(), nn.Linear(32, 3)),
    "attention": transformer,
    "embedding": lambda: nn.Sequential(nn.Embedding(2, 4), nn.Flatten(), nn.Linear(48, 6), nn.Linear(6, 3)),
    "frozen-first-layer": lambda: nn.Sequential(nn.Linear(12, 12).requires_grad_(False), mlp()),
}


@pytest.mark.parametrize("network", MOVING.values(), ids=MOVING)
def test_a05_every_parameter_with_a_gradient_moves(network):
    """A running index matched parameters to modules, and what it could not place cost the last layers their turn."""
    model = network().double()
    before, (x, y) = copy.deepcopy(model), batch()
    x = (x > 0).long() if isinstance(next(model.children()), nn.Embedding) else x
    optimizer = train(model, (x, y), lr=0.1)
    for (name, param), old in zip(model.named_parameters(), before.parameters(), strict=True):
        if param.requires_grad:
            assert param.grad.abs().max() > 1e-6, name  # the step is beyond round-off
            same(param, old - 0.1 * param.grad / optimizer.fisher_diag(param))


def test_a06_no_module_takes_the_factors_of_another_of_its_size():
    """Modules were matched by size and turn, so that an attention's bias took the F̃ of the LayerNorm behind it."""
    model, (x, y) = transformer(), batch()
    seen = {"first": model[:3](x).detach()}
    seen["second"] = torch.tanh(model[3].first(seen["first"])).detach()
    factors = factors_of(optimizer := train(model, (x, y), gamma=1.0))
    for param in model[1].self_attn.parameters():
        same(optimizer.fisher_diag(param), torch.full_like(param, 1 + DAMPING).detach())
    same(optimizer.fisher_diag(model[1].norm1.bias), min_max(factors["1.norm1"]["S"]) + DAMPING)
    for name, h in seen.items():
        same(factors[f"3.{name}"]["H"][:12], h.square().mean(0))
        same(optimizer.fisher_diag(model[3].get_submodule(name).weight), linear_fisher(factors[f"3.{name}"]))


SUPPORTED = {
    "subclass": (lambda: type("Own", (nn.Linear,), {})(4, 3), torch.randn(8, 4), "paper"),
    "non-quantizable": (lambda: nn.modules.linear.NonDynamicallyQuantizableLinear(4, 3), torch.randn(8, 4), "paper"),
    "conv1d": (lambda: nn.Conv1d(4, 3, 2), torch.randn(8, 4, 5), "paper"),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), torch.randn(8, 2, 3, 4, 5), "paper"),
    "batchnorm1d": (lambda: nn.BatchNorm1d(4), torch.randn(8, 4), "paper"),
    "batchnorm3d": (lambda: nn.BatchNorm3d(4), torch.randn(8, 4, 2, 3, 2), "paper"),
    "groupnorm": (lambda: nn.GroupNorm(2, 4), torch.randn(8, 4, 5), "all"),
    "rmsnorm": (lambda: nn.RMSNorm(4), torch.randn(8, 5, 4), "all"),
    "embedding": (lambda: nn.Embedding(3, 4), torch.tensor([[0, 2, 2], [2, 1, 1]]), "all"),
}


@pytest.mark.parametrize(("build", "x", "layers"), SUPPORTED.values(), ids=SUPPORTED)
def test_a07_layers_that_have_factors(build, x, layers):
    """Layers were recognised by four exact class names; all others, and every subclass, went without factors."""
    layer = build()
    optimizer = train(layer, (x, torch.randn_like(layer(x))), layers=layers)
    factors = factors_of(optimizer)[""]
    assert all(factor.unique().numel() > 1 for factor in factors.values())
    assert all((optimizer.fisher_diag(param) < 0.9).any() for param in layer.parameters())  # no identity


PATCHES = {  # options of a convolution, and the padding of its input before patches are cut
    "dilation": ({"dilation": 2}, (0, 0, 0, 0), "constant"),
    "same": ({"padding": "same", "dilation": (1, 2)}, (2, 2, 1, 1), "constant"),
    "reflect": ({"padding": (1, 2), "padding_mode": "reflect"}, (2, 2, 1, 1), "reflect"),
    "replicate": ({"padding": 1, "padding_mode": "replicate", "stride": 2}, (1, 1, 1, 1), "replicate"),
    "circular": ({"padding": "same", "padding_mode": "circular"}, (1, 1, 1, 1), "circular"),
}


@pytest.mark.parametrize(("options", "padding", "mode"), PATCHES.values(), ids=PATCHES)
def test_a08_convolutions_of_every_padding_and_dilation(options, padding, mode):
    """Dilation and padding modes were ignored, and padding="same" raised a TypeError."""
    conv, x = nn.Conv2d(2, 3, 3, **options).double(), torch.randn(4, 2, 9, 8).double()
    h = factors_of(train(conv, (x, torch.ones(1)), gamma=1.0))[""]["H"]
    unfold = {"dilation": options.get("dilation", 1), "stride": options.get("stride", 1)}
    same(h[:-1], F.unfold(F.pad(x, padding, mode), 3, **unfold).square().mean((0, 2)))


def test_a08_norms_without_parameters_and_activations_in_place():
    """LayerNorm(elementwise_affine=False) raised an AttributeError, and an in-place ReLU a RuntimeError."""
    norms = [nn.LayerNorm(6, elementwise_affine=False), nn.BatchNorm1d(6, affine=False)]
    model, (x, y) = nn.Sequential(nn.Linear(12, 6), nn.ReLU(inplace=True), *norms, nn.Linear(6, 3)).double(), batch()
    a = model[0](x)
    (s,) = torch.autograd.grad(F.cross_entropy(model[2:](a.relu()), y), a)
    factors = factors_of(train(model, (x, y), gamma=1.0))
    assert factors.keys() == {"0", "4"}
    same(factors["0"]["S"], (8 * s).square().mean(0))


def test_a09_each_group_of_a_convolution_has_its_own_input_factor():
    """H was pooled over the groups of a grouped convolution, whose outputs so shared one."""
    conv, x, v = (
        nn.Conv2d(4, 6, 3, groups=2).double(),
        torch.randn(5, 4, 6, 6).double(),
        torch.linspace(1, 3, 6).double(),
    )
    x[:, 2:] *= 3  # what the second group sees
    optimizer = train(conv, (x, v[:, None, None]), gamma=1.0)
    h = torch.cat([F.unfold(x, 3).square().mean((0, 2)), torch.ones(1).double()])
    same(factors_of(optimizer)[""]["H"], h)
    by_output = min_max(h)[:36].view(2, 18).repeat_interleave(3, 0)
    expected = min_max(v.square())[:, None] * by_output + DAMPING
    same(optimizer.fisher_diag(conv.weight), expected.view(6, 2, 3, 3))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_a10_norms_have_a_value_a_feature(norm):
    """A norm's H had two entries, for scale and shift, which min-max makes 0 and 1 whatever the data."""
    model, v = norm(12).double(), torch.linspace(1, 3, 12).double()
    x = torch.randn(8, 12).double().sign() * torch.linspace(0.5, 2, 12)  # h² and (N s)² both grow with the feature
    optimizer = train(model, (x, v))
    same(optimizer.fisher_diag(model.weight), min_max(x[0].square()) * min_max(v.square()) + DAMPING)
    same(optimizer.fisher_diag(model.bias), min_max(v.square()) + DAMPING)


def test_a11_shared_modules_and_weights():
    """A module used twice took two steps of the average a step, and a tied weight the factors of either layer."""
    twice, tied = nn.Linear(12, 12), nn.Linear(12, 12)
    tied.weight = twice.weight
    model, (x, y) = nn.Sequential(twice, nn.Tanh(), twice, nn.Tanh(), tied, nn.Linear(12, 3)).double(), batch()
    uses = torch.cat([x, torch.tanh(twice(x)).detach()])
    optimizer = train(model, (x, y), gamma=0.8)
    first, second = (factors_of(optimizer)[name] for name in ("0", "4"))
    same(first["H"][:12], 0.8 * uses.square().mean(0))
    same(optimizer.fisher_diag(tied.weight), (linear_fisher(first) + linear_fisher(second)) / 2)


def test_a12_micro_batches_are_one_batch():
    """Every forward took a step of the average, and at step 0 each micro-batch wiped out the one before it."""
    model, (x, y), sizes = mlp(), batch(), (2, 5, 1)
    whole, optimizer = train(copy.deepcopy(model), (x, y)), AdaFisher(model)
    for part, labels in zip(x.split(sizes), y.split(sizes), strict=True):
        (F.cross_entropy(model(part), labels, reduction="sum") / 8).backward()
    optimizer.step()
    same(factors_of(optimizer), factors_of(whole))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a12_checkpointed_layers_count_once(use_reentrant):
    """Activation checkpointing runs the forward twice, and each time the average took another step."""
    model, (x, y) = mlp(), batch()
    whole, optimizer = train(copy.deepcopy(model), (x, y)), AdaFisher(model)
    F.cross_entropy(checkpoint(model, x.clone().requires_grad_(), use_reentrant=use_reentrant), y).backward()
    optimizer.step()
    same(factors_of(optimizer), factors_of(whole))


def test_a12_grad_scaler_changes_nothing():
    """Factors moved even where GradScaler skipped the step, and S was of the scaled loss, whatever the scale then."""
    model, scaler = mlp().float(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    twin, optimizer = copy.deepcopy(model), AdaFisher(model, loss_scale=scaler.get_scale)
    batches = [(x.float(), y) for x, y in (batch(), batch(), batch())]
    for (x, y), factor in zip(batches, (1, torch.inf, 1), strict=True):  # the second is skipped, and halves the scale
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    plain = train(twin, batches[0], batches[2])
    same((model.state_dict(), factors_of(optimizer)), (twin.state_dict(), factors_of(plain)), rtol=1e-5)  # float32


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_a12_statistics_that_are_not_finite_are_left_out(bad):
    """Infinite gradients counted as 1 in S, and NaN spoiled it for good."""
    model, (x, y) = mlp(), batch()
    optimizer = train(model, (x, y))
    before = factors_of(optimizer)
    train(model, (x, torch.tensor(bad)), optimizer=optimizer)
    same(factors_of(optimizer), before, rtol=0)


def test_a13_the_size_of_a_batch_does_not_matter():
    """S of a mean loss fell with the square of the batch's size, and with it the weight of a larger batch."""
    model, (x, y), (x2, y2) = mlp(), batch(), batch()
    once = train(model, (x, y), (x2, y2), lr=0.0)
    doubled = train(model, (x, y), (x2.repeat(2, 1), y2.repeat(2)), lr=0.0)
    same(factors_of(doubled), factors_of(once))
    same(doubled.fisher_diag(model[0].weight), once.fisher_diag(model[0].weight))


def count_collectives(rank, folder):
    messages, counts = [], []
    for name in ("all_reduce", "all_gather", "all_gather_into_tensor", "broadcast", "reduce"):
        real = getattr(dist, name)
        setattr(dist, name, lambda x, *args, real=real, **options: (messages.append(x), real(x, *args, **options))[1])
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 3))
    optimizer = AdaFisher(model, update_interval=3)
    for _ in range(7):
        train(model, (torch.randn(4, 256), torch.randint(3, (4,))), optimizer=optimizer)
        counts.append(len(messages))
    assert counts == [1, 1, 1, 2, 2, 2, 3]
    assert all(message.nbytes < 0.02 * sum(param.grad.nbytes for param in model.parameters()) for message in messages)


@pytest.mark.dist
def test_a14_one_small_collective_a_refresh(tmp_path):
    """Two blocking all-reduces a module ran at every step, although factors change every 100 steps."""
    spawn(count_collectives, tmp_path)


@pytest.mark.parametrize("num_steps", [0, 2])
@pytest.mark.parametrize("target", [torch.float64, torch.float32, "meta"], ids=str)
def test_a16_a_state_loads_from_the_start_into_any_model_and_stays_as_it_is(num_steps, target):
    """state_dict() failed before the first step; loading emptied the caller's dict and left factors where they were."""
    model = mlp()
    saved = train(model, *(batch() for _ in range(num_steps))).state_dict()
    kept, other = copy.deepcopy(saved), copy.deepcopy(model).to(target)
    loaded, weight = AdaFisher(other), other[0].weight
    for x, y in (batch(), batch()):
        loaded.load_state_dict(saved)
        train(other, (x.to(weight), y.to(weight.device)), optimizer=loaded)
    assert saved["adafisher"].pop("numerics") == kept["adafisher"].pop("numerics")  # torch compares no strings
    same(saved, kept, rtol=0)
    factors = [factor for pair in factors_of(loaded).values() for factor in pair.values()]
    for tensor in (*factors, loaded.state[weight]["exp_avg"], loaded.fisher_diag(weight)):
        assert (tensor.dtype, tensor.device) == (weight.dtype, weight.device)


def test_a16_factors_load_by_layer_name():
    """A state fitted only a model that registers its modules in the same order."""
    model, (old, new) = Backwards().double(), (batch(), batch())
    other = copy.deepcopy(model)
    other._modules = dict(reversed(other._modules.items()))
    first, second = (AdaFisher(net, params=sorted(net.named_parameters())) for net in (model, other))
    train(model, old, optimizer=first)
    other.load_state_dict(model.state_dict())
    second.load_state_dict(first.state_dict())
    for net, optimizer in ((model, first), (other, second)):
        train(net, new, optimizer=optimizer)
    same((other.state_dict(), factors_of(second)), (model.state_dict(), factors_of(first)), rtol=0)


def test_a17_step_takes_a_closure():
    """step(closure) was not supported."""
    model, (x, y) = mlp(), batch()
    twin, optimizer = copy.deepcopy(model), AdaFisher(model)

    def closure():
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    same(optimizer.step(closure), F.cross_entropy(twin(x), y))
    train(twin, (x, y))
    same(model.state_dict(), twin.state_dict(), rtol=0)


def test_a17_groups_have_options_and_layers_of_their_own():
    """There was one group; one added later began again with the factors of the first module."""
    model = Backwards().double()
    before = copy.deepcopy(model)
    options = {"second": {"lr": 0.1, "damping": 0.5}, "last": {"weight_decay": 0.1}, "first": {"lr": 0.2}}
    groups = [{"params": model.get_submodule(name).parameters(), **own} for name, own in options.items()]
    optimizer = AdaFisher(model, lr=0.01, params=groups[:2])
    optimizer.add_param_group(groups[2])
    train(model, batch(), optimizer=optimizer)
    for name, own in options.items():
        weight, old = (network.get_submodule(name).weight for network in (model, before))
        fisher = linear_fisher(factors_of(optimizer)[name], own.get("damping", DAMPING))
        same(weight, old - own.get("lr", 0.01) * (weight.grad + own.get("weight_decay", 0.0) * old) / fisher)


def living_tensors():
    gc.collect()
    return {id(x): x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)}


def test_a21_the_fisher_diagonal_is_not_kept():
    """F̃ was multiplied out layer by layer for a whole step; here for one weight at a time, and nothing of it stays."""
    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(3)))
    x, num_bytes, before = torch.randn(4, 1024), model[0].weight.nbytes, living_tensors()
    optimizer = AdaFisher(model)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            optimizer.step()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    peak = max(accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
    assert num_bytes <= peak <= 1.1 * num_bytes
    optimizer.zero_grad()
    stays = {x.untyped_storage().data_ptr(): x for key, x in living_tensors().items() if key not in before}
    assert 3 * num_bytes <= sum(x.untyped_storage().nbytes() for x in stays.values()) <= 1.02 * 3 * num_bytes
