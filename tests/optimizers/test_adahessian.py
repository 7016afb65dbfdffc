"""AdaHessian against the float64 oracle, by hand, and with graphs that lack something."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from optimizers import REGISTRY, AdaHessian
from optimizers.hutchinson import random_signs
from tests.optimizers.contract import assert_same, parameters
from tests.oracles.adahessian import AdaHessianOracle, hessian_diagonal

STEPS = 50
LABELS = 3
SEED = 5
TOLERANCE = 1e-10  # float64: the two multiply and sum in different orders
MARGIN = 1e-4  # the least that a mutant differs by
LR = 0.01  # so that 50 steps stay where round-off does not grow

pytestmark = pytest.mark.filterwarnings(r"ignore:Using backward\(\) with create_graph=True")


@dataclass(frozen=True)
class Net:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one sample


class Positions(nn.Module):
    """A parameter with as many dimensions as a kernel of Conv1d, which is none."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.1 * torch.randn(1, 4, 3))
        self.head = nn.Linear(12, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.positions).tanh().flatten(1))


def net(shape: tuple[int, ...], *body: Callable[[], nn.Module], out: int) -> Net:
    return Net(lambda: nn.Sequential(*(layer() for layer in body), nn.Flatten(), nn.Linear(out, LABELS)), shape)


NETS = {
    "mlp": net((5,), lambda: nn.Linear(5, 4), nn.Tanh, out=4),
    "layernorm": net((5,), lambda: nn.Linear(5, 4), lambda: nn.LayerNorm(4), nn.Softplus, out=4),
    "batchnorm1d": net((5,), lambda: nn.Linear(5, 4, bias=False), lambda: nn.BatchNorm1d(4), nn.Tanh, out=4),
    "batchnorm2d": net(
        (2, 4, 4), lambda: nn.Conv2d(2, 3, 3, bias=False), lambda: nn.BatchNorm2d(3), nn.Softplus, out=12
    ),
    "conv1d": net((2, 6), lambda: nn.Conv1d(2, 3, 3), nn.Tanh, out=12),
    "conv2d": net((2, 4, 4), lambda: nn.Conv2d(2, 3, 3, padding=1), nn.Tanh, lambda: nn.AvgPool2d(2), out=12),
    "conv2d-grouped": net((4, 4, 4), lambda: nn.Conv2d(4, 4, (2, 3), groups=2, bias=False), nn.Tanh, out=24),
    "conv3d": net((1, 3, 3, 3), lambda: nn.Conv3d(1, 2, (2, 2, 3)), nn.Tanh, out=8),
    "conv-transposed": net((2, 3), lambda: nn.ConvTranspose1d(2, 2, 2), nn.Tanh, out=8),
    "positions": Net(Positions, (4, 3)),
}


def make_batches(shape: tuple[int, ...], num_steps: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, *shape, generator=generator).double(), torch.randint(LABELS, (16,), generator=generator))
        for _ in range(num_steps)
    ]


def signs(model: nn.Module, step: int) -> dict[str, Tensor]:
    """What the optimizer draws for a step."""
    return {name: random_signs(p, SEED, step, i) for i, (name, p) in enumerate(model.named_parameters())}


def relative_difference(actual: Tensor, expected: Tensor) -> Tensor:
    return (actual.detach().double() - expected).abs().max() / expected.abs().max()


def compare(net: Net, oracle: type[AdaHessianOracle] = AdaHessianOracle, num_steps: int = STEPS, **options) -> float:
    """Train both; the largest relative difference of a parameter."""
    torch.manual_seed(0)
    model = net.build().double()
    options = {"lr": LR, **options}
    expected, optimizer = oracle(model=model, **options), AdaHessian(model, seed=SEED, **options)
    for step, (x, y) in enumerate(make_batches(net.shape, num_steps)):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward(create_graph=optimizer.needs_graph)
        optimizer.step()
        expected.step(x, lambda output: F.cross_entropy(output, y), signs(model, step))  # noqa: B023
    differences = [relative_difference(p, expected.params[name]) for name, p in model.named_parameters()]
    return torch.stack(differences).max().item()


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_parameters_follow_the_oracle(net):
    assert compare(net) <= TOLERANCE


SETTINGS = {
    "weight-decay": {"weight_decay": 0.1},
    "power": {"hessian_power": 0.3},
    "every-5-steps": {"update_interval": 5},
    "betas-and-eps": {"beta1": 0.5, "beta2": 0.8, "eps": 1e-2},
    "all": {"weight_decay": 0.1, "hessian_power": 0.5, "update_interval": 5, "beta2": 0.9},
}


@pytest.mark.parametrize("name", ["mlp", "conv2d"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_settings(name, setting):
    assert compare(NETS[name], **setting) <= TOLERANCE


MUTATED = {"weight_decay": 0.1, "hessian_power": 0.5, "update_interval": 5, "beta2": 0.9}
MUTANTS = {
    "absolute-before-averaging": {"diagonal": lambda self, z, hz: (z * hz).abs()},
    "signs-left-out": {"diagonal": lambda self, z, hz: hz},
    "no-averaging": {"average": lambda self, name, d: d},
    "averaged-over-inputs-too": {
        "average": lambda self, name, d: d.mean((1, 2, 3), keepdim=True) if d.dim() == 4 else d
    },
    "averages-not-squared-first": {
        "second_moment": lambda self, ds: self.mean(ds, self.beta2) ** 2,
    },
    "not-corrected": {
        "second_moment": lambda self, ds: (1 - self.beta2 ** len(ds)) * self.mean([d**2 for d in ds], self.beta2)
    },
    "corrected-by-steps": {
        "second_moment": lambda self, ds: (
            (1 - self.beta2 ** len(ds))
            / (1 - self.beta2 ** len(self.grads))
            * self.mean([d**2 for d in ds], self.beta2)
        )
    },
    "power-of-the-square": {"denominator": lambda self, v: v**self.hessian_power + self.eps},
    "eps-within-the-power": {"denominator": lambda self, v: (v.sqrt() + self.eps) ** self.hessian_power},
    "no-power": {"denominator": lambda self, v: v.sqrt() + self.eps},
    "decay-through-the-denominator": {
        "moved": lambda self, name, theta: (
            AdaHessianOracle.moved(self, name, theta)
            + self.lr
            * self.weight_decay
            * theta
            * (1 - 1 / self.denominator(self.second_moment([D[name] for D in self.diagonals])))
        )
    },
}


@pytest.mark.parametrize("replaced", MUTANTS.values(), ids=MUTANTS)
def test_mutants_of_the_oracle_differ(replaced):
    """Where one does not, the comparison is blind to its error."""
    mutant = type("Mutant", (AdaHessianOracle,), replaced)
    assert compare(NETS["conv2d"], mutant, num_steps=12, **MUTATED) >= MARGIN


def test_an_unchanged_mutant_agrees():
    assert compare(NETS["conv2d"], type("Mutant", (AdaHessianOracle,), {}), num_steps=12, **MUTATED) <= TOLERANCE


@pytest.mark.parametrize("name", ["mlp", "conv2d"])
def test_estimates_tend_to_the_diagonal_of_the_hessian(name):
    """The standard error of a mean of n estimates is that of one over √n; 5 of them are the most it may be off."""
    torch.manual_seed(0)
    model, num_probes = NETS[name].build().double(), 1000
    ((x, y),) = make_batches(NETS[name].shape, 1)
    optimizer, params = AdaHessian(model, seed=SEED), dict(model.named_parameters())
    optimizer._kernels = set()  # the estimates themselves, not averaged over kernels
    sums, squares = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
    for probe in range(num_probes):
        for param, grad in zip(
            params.values(),
            torch.autograd.grad(F.cross_entropy(model(x), y), list(params.values()), create_graph=True),
            strict=True,
        ):
            param.grad = grad
        optimizer._num_steps = probe
        for param_name, estimate in zip(params, optimizer._estimate(list(params.values())).values(), strict=True):
            sums[param_name] += estimate
            squares[param_name] += estimate.square()
    exact = hessian_diagonal(
        lambda theta: F.cross_entropy(torch.func.functional_call(model, theta, (x,)), y), parameters(model)
    )
    for param_name, expected in exact.items():
        mean = sums[param_name] / num_probes
        error = ((squares[param_name] / num_probes - mean.square()) / num_probes).sqrt()
        assert ((mean - expected).abs() <= 5 * error + 1e-12).all(), param_name
        assert error.mean() < 0.5 * expected.abs().mean(), param_name  # the mean is not noise


def test_two_steps_by_hand():
    """Loss a² + 3 a b at (1, 2): H = [[2, 3], [3, 0]], g = (2 a + 3 b, 3 a); ε = 1/2, α = 0.1, β₁ = 1/2, β₂ = 1/4.

    D = (2 + 3 s, 3 s) with s = z_a z_b: (5, 3) or (-1, -3), squares (25, 9) or (1, 9). Step 1: v̂ = D², m̂ = g = (8, 3).
    Step 2: v̂ = (D₁² + 4 D₂²) / 5, m̂ = (g₁ + 2 g₂) / 3.
    """
    model = nn.ParameterDict({"a": nn.Parameter(torch.tensor(1.0)), "b": nn.Parameter(torch.tensor(2.0))}).double()
    optimizer = AdaHessian(model, lr=0.1, beta1=0.5, beta2=0.25, eps=0.5, seed=SEED)
    theta, g, squares = torch.tensor([1.0, 2.0]).double(), [], []
    for step in range(2):
        optimizer.zero_grad()
        (model["a"].square() + 3 * model["a"] * model["b"]).backward(create_graph=True)
        optimizer.step()
        g.append(torch.stack([2 * theta[0] + 3 * theta[1], 3 * theta[0]]))
        z = signs(model, step)
        squares.append(torch.tensor([25.0 if z["a"] == z["b"] else 1.0, 9.0]).double())
        m = g[0] if step == 0 else (g[0] + 2 * g[1]) / 3
        v = squares[0] if step == 0 else (squares[0] + 4 * squares[1]) / 5
        theta = theta - 0.1 * m / (v.sqrt() + 0.5)
        torch.testing.assert_close(torch.stack([model["a"], model["b"]]).detach(), theta)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, LABELS))


def step(model: nn.Module, optimizer: AdaHessian, *, create_graph: bool | None = None, scale: float = 1.0) -> None:
    ((x, y),) = make_batches((5,), 1)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x.to(next(model.parameters()))), y) * scale
    loss.backward(create_graph=optimizer.needs_graph if create_graph is None else create_graph)
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_signs_are_a_function_of_the_seed_and_where_they_are_drawn(dtype):
    param = torch.empty(3, 1001, dtype=dtype)
    drawn = random_signs(param, 1, 2, 3)
    assert (drawn.shape, drawn.dtype) == (param.shape, dtype)
    assert torch.equal(drawn.abs(), torch.ones_like(drawn))
    assert abs(drawn.double().mean()) < 5 / 3003**0.5
    assert torch.equal(drawn, random_signs(param, 1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert abs((drawn * random_signs(param, *other)).double().mean()) < 5 / 3003**0.5
    torch.manual_seed(0)
    before = torch.get_rng_state()
    random_signs(param, 1, 2, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_is_torchs_by_default_and_goes_with_the_state():
    torch.manual_seed(123)
    model = mlp()
    optimizer = AdaHessian(model)
    assert optimizer.state_dict()["adahessian"]["seed"] == 123
    other = AdaHessian(model, seed=7)
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["adahessian"]["seed"] == 123


def test_a_graph_is_needed_where_the_hessian_is_due():
    model = mlp()
    optimizer, needed = AdaHessian(model, update_interval=3), []
    for _ in range(5):
        needed.append((optimizer.needs_graph, REGISTRY["adahessian"].needs_graph(optimizer)))
        step(model, optimizer)
    assert needed == [(due, due) for due in (True, False, False, True, False)]
    optimizer.schedule_refresh(1)
    assert optimizer.needs_graph
    optimizer.schedule_refresh(0)
    assert not optimizer.needs_graph


def test_a_graph_that_is_not_needed_changes_nothing():
    results = []
    for create_graph in (None, True):
        torch.manual_seed(0)
        model = mlp()
        optimizer = AdaHessian(model, update_interval=3, seed=SEED)
        for _ in range(5):
            step(model, optimizer, create_graph=create_graph)
        results.append((parameters(model), optimizer.state_dict()))
    assert_same(*results)


def test_a_kernel_has_one_average():
    """8 / 9 of a 3 × 3 convolution's second moments are not held."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, LABELS))
    optimizer = AdaHessian(model)
    F.cross_entropy(model(torch.randn(8, 2, 3, 3)), torch.randint(LABELS, (8,))).backward(create_graph=True)
    optimizer.step()
    shapes = [tuple(mean.shape) for mean in optimizer.state_dict()["adahessian"]["mean_squares"]]
    assert shapes == [(4, 2, 1, 1), (4,), (LABELS, 4), (LABELS,)]
    assert optimizer.hessian_diag(model[0].weight).shape == model[0].weight.shape
    with pytest.raises(ValueError, match="no such parameter"):
        optimizer.hessian_diag(nn.Parameter(torch.zeros(2)))


def test_what_a_parametrization_makes_a_kernel_of_is_averaged():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3))
    averaged = {name for name, param in conv.named_parameters() if param in AdaHessian(conv)._kernels}
    assert averaged == {"parametrizations.weight.original0", "parametrizations.weight.original1"}


def test_the_loss_scale_is_taken_out():
    """1024 is a power of 2: no round-off."""
    results = []
    for scale in (1.0, 1024.0):
        torch.manual_seed(0)
        model = mlp().double()
        optimizer = AdaHessian(model, loss_scale=lambda: scale, seed=SEED)  # noqa: B023
        step(model, optimizer, scale=scale)
        results.append([optimizer.hessian_diag(param) for param in model.parameters()])
    assert_same(*results)


def test_grad_scaler_takes_the_scale_out_of_the_gradient():
    results = []
    for init_scale in (1.0, 1024.0):
        torch.manual_seed(0)
        model, scaler = mlp().double(), torch.amp.GradScaler("cpu", init_scale=init_scale)
        optimizer = AdaHessian(model, loss_scale=scaler.get_scale, seed=SEED)
        ((x, y),) = make_batches((5,), 1)
        scaler.scale(F.cross_entropy(model(x), y)).backward(create_graph=True)
        scaler.step(optimizer)
        results.append(parameters(model))
    assert_same(*results, tolerance=1e-6)  # it unscales by a reciprocal in float32


class Mixed(nn.Module):
    """A parameter whose gradient depends on no parameter beside one whose gradient does, and one whose may overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.square, self.wild = (nn.Parameter(torch.ones(2)) for _ in range(3))

    def forward(self, curvature: float) -> Tensor:
        return self.linear.sum() + self.square.square().sum() + (curvature * self.wild.square()).sum()


def take(model: Mixed, optimizer: AdaHessian, curvature: float) -> None:
    optimizer.zero_grad()
    model(curvature).backward(create_graph=True)
    optimizer.step()


def test_a_gradient_that_depends_on_no_parameter_has_no_curvature():
    model = Mixed()
    optimizer = AdaHessian(model, lr=1e-6)
    take(model, optimizer, 1.0)
    assert optimizer.hessian_diag(model.linear).tolist() == [0.0, 0.0]
    assert optimizer.hessian_diag(model.square).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_estimates_that_are_not_finite_are_not_folded_in(bad):
    model = Mixed()
    optimizer = AdaHessian(model, lr=0.0)
    take(model, optimizer, bad)
    assert optimizer.hessian_diag(model.wild).tolist() == [1.0, 1.0]  # the gradient's own step
    assert optimizer.hessian_diag(model.square).tolist() == [2.0, 2.0]
    take(model, optimizer, 2.0)
    assert optimizer.hessian_diag(model.wild).tolist() == [4.0, 4.0]  # the only one in the average
    take(model, optimizer, bad)
    assert optimizer.hessian_diag(model.wild).tolist() == [4.0, 4.0]


def test_a_parameter_that_joins_between_estimates_takes_the_gradients_step():
    model = mlp()
    model[2].requires_grad_(False)
    optimizer = AdaHessian(model, params=list(model.parameters()), update_interval=3, lr=0.1, beta1=0.0)
    step(model, optimizer)
    model[2].requires_grad_(True)
    before = model[2].bias.detach().clone()
    step(model, optimizer)
    torch.testing.assert_close(model[2].bias.detach(), before - 0.1 * model[2].bias.grad / (1 + 1e-4))


def test_the_graph_is_dropped():
    """A parameter, its gradient and the graph between them are a cycle, which ``step`` breaks without a collection."""
    model = mlp()
    optimizer = AdaHessian(model, update_interval=2)
    for _ in range(2):  # one that estimates, one that need not have a graph
        ((x, y),) = make_batches((5,), 1)
        optimizer.zero_grad()
        hidden = model[:2](x.float())
        F.cross_entropy(model[2](hidden), y).backward(create_graph=True)
        graph = weakref.ref(hidden)  # the graph of the gradients keeps what the head was given
        del hidden
        assert graph() is not None
        gc.disable()
        try:
            optimizer.step()
            assert graph() is None
        finally:
            gc.enable()
        assert not any(param.grad.requires_grad for param in model.parameters())


def test_tensors_do_not_pile_up():
    model = mlp()
    optimizer = AdaHessian(model)
    counts = []
    gc.disable()
    try:
        for _ in range(6):
            step(model, optimizer)
            counts.append(sum(issubclass(type(each), Tensor) for each in gc.get_objects()))
    finally:
        gc.enable()
    assert len(set(counts[2:])) == 1


@pytest.mark.parametrize(
    ("loss", "create_graph"),
    [(lambda model, x: model(x).square().mean(), False), (lambda model, x: model[0](x).mean(), True)],
    ids=["forgotten", "linear"],
)
def test_no_graph_is_one_clear_error(loss, create_graph):
    model, x = mlp(), torch.randn(4, 5)
    optimizer = AdaHessian(model)
    before = parameters(model)
    loss(model, x).backward(create_graph=create_graph)
    with pytest.raises(RuntimeError, match=r"call loss.backward\(create_graph=optimizer.needs_graph\)") as caught:
        optimizer.step()
    assert "\n" not in str(caught.value)
    assert_same(parameters(model), before)
    assert not optimizer.state_dict()["state"]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*self.qkv(x).unflatten(-1, (3, 2, 4)).movedim(-3, 0).transpose(-3, -2))


def test_a_layer_that_cannot_be_differentiated_twice_is_one_clear_error():
    model, x = Attention(), torch.randn(2, 5, 8)
    optimizer = AdaHessian(model, lr=1e-3)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        model(x).square().mean().backward(create_graph=True)
    with pytest.raises(RuntimeError, match=r"torch.nn.attention.sdpa_kernel\(SDPBackend.MATH\)") as caught:
        optimizer.step()
    assert "\n" not in str(caught.value)
    assert "not implemented" in str(caught.value.__cause__)
    optimizer.zero_grad()
    with sdpa_kernel(SDPBackend.MATH):
        model(x).square().mean().backward(create_graph=True)
    optimizer.step()


def test_the_model_may_share_what_it_gives_to_two_parameters():
    """Autograd hands both the very same product, which must not be multiplied in place."""
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(64)), "b": nn.Parameter(torch.ones(64))})
    optimizer = AdaHessian(model, seed=SEED, lr=0.0)
    (model["a"] + model["b"]).square().sum().backward(create_graph=True)
    optimizer.step()
    z = signs(model, 0)
    product = 2 * (z["a"] + z["b"])
    for name, param in model.items():
        assert torch.equal(optimizer.hessian_diag(param), (z[name] * product).abs())
