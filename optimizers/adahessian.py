r"""AdaHessian: momentum preconditioned by an average of the Hessian's diagonal.

Yao et al. (2021), "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning", AAAI, Algorithm 1.
Hutchinson's method estimates the diagonal by one product of the Hessian H with a vector z of random signs,

.. math:: D = z \odot (H z), \qquad E[D] = \mathrm{diag}(H),

as :math:`E[z_i z_j]` is 1 for i = j and else 0. D is averaged over the entries of each convolution kernel, its squares
over the steps, and each parameter moves by :math:`-\alpha \, \hat m / (\hat v^{k/2} + \epsilon)`. We differ from the
released code, which averages :math:`|D|` instead of D over a kernel: ``docs/adahessian.md`` has the list.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .base import BETA, WEIGHT_DECAY, Categorical, Float, OptimizerSpec, SearchSpace, require, require_count
from .batchnorm import quicken
from .capture import WeakHook, attach
from .comm import average_gradients, mean_of_each, resolve_group
from .curvature import CurvatureOptimizer, unwrapped
from .factors import accumulation_dtype
from .grids import HESSIAN_POWER, paper_spaces
from .hutchinson import RunningDiagonal, estimates, kernels

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

GROUP_OPTIONS = ("lr", "beta1", "beta2", "eps", "hessian_power", "weight_decay")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaHessianConfig:
    """Hyperparameters.

    Args:
        lr: Learning rate α, >= 0.
        beta1: Decay of the mean of gradients, in [0, 1).
        beta2: Decay of the mean of squared Hessian diagonals, in [0, 1).
        eps: ε, > 0; added to the denominator.
        hessian_power: k, in (0, 1].
        weight_decay: >= 0; decoupled.
        update_interval: Steps from one estimate of the Hessian to the next, >= 1.
        seed: Of the random signs, >= 0; None for ``torch.initial_seed()`` when the optimizer is built.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 0.15
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-4
    hessian_power: float = 1.0
    weight_decay: float = 0.0
    update_interval: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.beta1 < 1, "beta1", "in [0, 1)", self.beta1)
        require(0 <= self.beta2 < 1, "beta2", "in [0, 1)", self.beta2)
        require(0 < self.eps < math.inf, "eps", "finite and > 0", self.eps)
        require(0 < self.hessian_power <= 1, "hessian_power", "in (0, 1]", self.hessian_power)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)
        require_count("update_interval", self.update_interval)
        is_seed = self.seed is None or (type(self.seed) is int and self.seed >= 0)
        require(is_seed, "seed", "None or a whole number >= 0", self.seed)


def adahessian_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    mean_square: Tensor,
    *,
    step: int,
    lr: float,
    beta1: float,
    eps: float,
    hessian_power: float,
    weight_decay: float,
) -> None:
    r"""Move a parameter and its average of gradients in place.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad \theta \leftarrow \theta - \alpha \left(
              \frac{m}{(1 - \beta_1^t) (\hat v^{k/2} + \epsilon)} + \kappa \theta \right)

    Args:
        param: θ, any shape.
        grad: g, its shape.
        exp_avg: m, its shape.
        mean_square: v̂, broadcastable to its shape, >= 0.
        step: t, >= 1.
        lr: α.
        beta1: β₁.
        eps: ε.
        hessian_power: k.
        weight_decay: κ.
    """
    root = mean_square.sqrt() if hessian_power == 1 else mean_square.pow(hessian_power / 2)
    exp_avg.lerp_(grad, 1 - beta1)
    if weight_decay:
        param.mul_(1 - lr * weight_decay)
    param.addcdiv_(exp_avg, root.add_(eps).to(param.dtype), value=-lr / (1 - beta1**step))


class AdaHessian(CurvatureOptimizer):
    """AdaHessian on a bare model; used as any optimizer of ``torch.optim``, but for a backward that creates a graph.

    Call ``loss.backward(create_graph=optimizer.needs_graph)``, or always with True; ``step`` drops the graph. With
    several workers, which have to start from equal parameters, do not use DistributedDataParallel, which cannot be
    differentiated twice: the optimizer averages the gradients itself.

    Args:
        model: The network; says which parameters are convolution kernels.
        lr: Learning rate α.
        params: Parameters or groups as in ``torch.optim``; groups may override all but the interval and the seed.
            Default: all trainable parameters of the model.
        beta1: See :class:`AdaHessianConfig`, as all up to ``seed``.
        beta2: Decay of the mean of squared Hessian diagonals.
        eps: ε.
        hessian_power: k.
        weight_decay: Decoupled weight decay.
        update_interval: Steps between estimates of the Hessian.
        seed: Of the random signs.
        loss_scale: Returns by what the loss is multiplied before ``backward``; None for 1.
        process_group: The workers to average over: None for the default group's if there is one, False for this one
            alone.

    Attributes:
        refresh_intervals: Steps from one estimate of the Hessian to the next, alone in a tuple.
        refreshed: Whether the last ``step()`` made one, 1 or 0.

    Raises:
        ValueError: If a hyperparameter breaks its rule, or a parameter is complex or integer.
    """  # noqa: DOC502

    state_key = "adahessian"

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.15,
        *,
        params: ParamsT | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-4,
        hessian_power: float = 1.0,
        weight_decay: float = 0.0,
        update_interval: int = 1,
        seed: int | None = None,
        loss_scale: Callable[[], float] | None = None,
        process_group: "ProcessGroup | Literal[False] | None" = None,
    ) -> None:
        self._model = unwrapped(model)
        config = AdaHessianConfig(
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            hessian_power=hessian_power,
            weight_decay=weight_decay,
            update_interval=update_interval,
            seed=seed,
        )
        self._seed = torch.initial_seed() if seed is None else seed
        self._loss_scale = loss_scale
        self._process_group = resolve_group(process_group)
        self._found: dict[nn.Parameter, Tensor] = {}  # D of this step, between _complete_gradients and _refresh
        self._running: dict[nn.Parameter, RunningDiagonal] = {}
        super().__init__(
            self._model, params, config=config, group_options=GROUP_OPTIONS, refresh_intervals=(update_interval,)
        )
        norms = [module for module in self._model.modules() if isinstance(module, BATCH_NORMS)]
        attach(self, [(norm, WeakHook(self._watch)) for norm in norms])

    @property
    def needs_graph(self) -> bool:
        """Whether the next step estimates the Hessian, so that ``backward`` has to create a graph."""
        return self._level > 0

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; see :class:`CurvatureOptimizer`."""
        super().add_param_group(param_group)
        self._kernels = kernels(self._model)

    def hessian_diag(self, param: nn.Parameter) -> Tensor:
        """Return the root mean square of a parameter's Hessian diagonals, √v̂, for diagnostics.

        Args:
            param: One of this optimizer's parameters.

        Returns:
            A new tensor of the parameter's shape; ones before the first estimate.

        Raises:
            ValueError: If it is none of this optimizer's parameters.
        """
        if not any(param is own for own in self._params()):
            raise ValueError(f"this optimizer has no such parameter, of shape {tuple(param.shape)}")
        running = self._running.get(param)
        root = param.new_ones(()) if running is None else running.mean_square.sqrt()
        return root.expand(param.shape).clone()

    def _watch(self, x: object, output: object) -> None:
        if self.needs_graph and torch.is_grad_enabled():
            quicken(output)

    def _complete_gradients(self) -> None:
        """Estimate the Hessian where that is due, drop the graph, and average the gradients over the workers."""
        params = list(self._params())
        grads = [(param, param.grad) for param in params if param.grad is not None]
        self._found = self._estimate(params) if self._level and grads else {}
        for param, grad in grads:
            param.grad = grad.detach()  # a parameter, its gradient and the graph between them are a cycle
        if self._process_group is not None:
            average_gradients(params, self._process_group)

    def _estimate(self, params: Sequence[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
        """Return D, averaged over kernels, of each parameter whose gradient depends on a parameter."""
        scale = 1.0 if self._loss_scale is None else self._loss_scale()
        found = estimates(params, self._seed, self._num_steps)
        return {param: self._averaged(param, diagonal).div_(scale) for param, diagonal in found}

    def _refresh(self, level: int) -> None:
        found, self._found = self._found, {}
        if self._process_group is not None:
            params = list(self._params())
            own = [found[param] if param in found else self._zeros(param) for param in params]
            found = dict(zip(params, mean_of_each(own, self._process_group), strict=True))
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    diagonal = found[param] if param in found else self._zeros(param)
                    self._running_of(param).fold(diagonal, group["beta2"])

    def _averaged(self, param: nn.Parameter, diagonal: Tensor) -> Tensor:
        """Return D averaged over the entries of each kernel."""
        dtype = accumulation_dtype(param.dtype)
        if param not in self._kernels:
            return diagonal.to(dtype)
        return diagonal.flatten(2).mean(2, dtype=dtype).view(self._block_shape(param))

    def _block_shape(self, param: Tensor) -> tuple[int, ...]:
        shape = tuple(param.shape)
        return shape[:2] + (1,) * (len(shape) - 2) if param in self._kernels else shape

    def _zeros(self, param: nn.Parameter) -> Tensor:
        return param.new_zeros(self._block_shape(param), dtype=accumulation_dtype(param.dtype))

    def _running_of(self, param: nn.Parameter) -> RunningDiagonal:
        if param not in self._running:
            zeros = self._zeros(param)
            self._running[param] = RunningDiagonal(mean_square=zeros + 1, mass=zeros.new_zeros(()))
        return self._running[param]

    def _params(self) -> Iterator[nn.Parameter]:
        return (param for group in self.param_groups for param in group["params"])

    def _new_state(self, param: Tensor) -> dict[str, Any]:
        return {"step": 0, "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def _update(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        assert param.grad is not None
        state = self.state[param]
        state["step"] += 1
        adahessian_update(
            param,
            param.grad,
            state["exp_avg"],
            self._running_of(param).mean_square,
            step=state["step"],
            lr=group["lr"],
            beta1=group["beta1"],
            eps=group["eps"],
            hessian_power=group["hessian_power"],
            weight_decay=group["weight_decay"],
        )

    def _own_state(self) -> dict[str, Any]:
        running = [self._running.get(param) for param in self._params()]
        return {
            "seed": self._seed,
            "mean_squares": [None if each is None else each.mean_square.clone() for each in running],
            "masses": [None if each is None else each.mass.clone() for each in running],
        }

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        require(type(own["seed"]) is int, "seed of the loaded state", "a whole number", own["seed"])
        params = list(self._params())
        for name, shapes in (("mean_squares", map(self._block_shape, params)), ("masses", ((),) * len(params))):
            is_list = isinstance(own[name], list) and len(own[name]) == len(params)
            require(is_list, f"the loaded {name}", f"a list of {len(params)}", own[name])
            for value, shape in zip(own[name], shapes, strict=True):
                loaded = tuple(value.shape) if isinstance(value, Tensor) else value
                require(loaded in {None, shape}, f"a shape of the loaded {name}", f"{shape}", loaded)
        is_held = [[value is None for value in own[name]] for name in ("mean_squares", "masses")]
        require(is_held[0] == is_held[1], "the loaded masses", "of the loaded mean_squares", "others")

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        self._seed = own["seed"]
        self._running = {}
        for param, mean_square, mass in zip(self._params(), own["mean_squares"], own["masses"], strict=True):
            if mass is not None:
                running = self._running_of(param)
                running.mean_square.copy_(mean_square)
                running.mass.copy_(mass)


def build(model: nn.Module, config: AdaHessianConfig) -> AdaHessian:
    """Return AdaHessian over the trainable parameters of a model."""
    return AdaHessian(model, **asdict(config))


SEARCH_SPACE: SearchSpace = {
    "lr": Float(low=1e-3, high=1.0, log=True),
    "hessian_power": Float(low=0.1, high=1.0),
}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": WEIGHT_DECAY,
    "beta1": BETA,
    "beta2": Categorical(choices=(0.9, 0.99, 0.999)),
    "eps": Categorical(choices=(1e-8, 1e-6, 1e-4, 1e-2)),
    "update_interval": Categorical(choices=(1, 10)),
}

SPEC = OptimizerSpec(
    name="adahessian",
    config=AdaHessianConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces(hessian_power=HESSIAN_POWER)},
    cost_fields=frozenset({"update_interval"}),
    create_graph=True,
    reference="Yao et al. (2021), ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning, AAAI",
)
