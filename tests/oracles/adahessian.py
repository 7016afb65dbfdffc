# ruff: noqa: N803, N806 (the letters of the equations)
"""AdaHessian (AAAI 2021) from its equations: float64, slow and plain.

The whole Hessian is formed and multiplied by the given signs; the moments are the sums over all steps that the paper
writes, not recursions. What is averaged over is said by module: a convolution's kernel over its offsets.

Legend: z random signs, H the Hessian, D the estimate of its diagonal, g the gradient, m and v the moments, k the power.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Named = dict[str, Tensor]


class LayerNorm(nn.Module):
    """Written out: of torch's own, `torch.func.hessian` gives a wrong Hessian (2.14; finite differences tell)."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.dims = tuple(range(-len(layer.normalized_shape), 0))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(self.dims, keepdim=True)
        variance = (centred**2).mean(self.dims, keepdim=True)
        return centred / (variance + self.eps).sqrt() * self.weight + self.bias


class BatchNorm(nn.Module):
    """In training mode, without running statistics, which no transform of `torch.func` may write."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        dims, shape = tuple(d for d in range(x.dim()) if d != 1), [-1] + [1] * (x.dim() - 2)
        centred = x - x.mean(dims, keepdim=True)
        variance = (centred**2).mean(dims, keepdim=True)
        scale, shift = self.weight.reshape(shape), self.bias.reshape(shape)
        return centred / (variance + self.eps).sqrt() * scale + shift


def hessian_diagonal(loss: Callable[[Named], Tensor], params: Named) -> Named:
    """The exact diagonal."""
    H = dense_hessian(loss, params)
    return unflatten(H.diagonal(), params)


def dense_hessian(loss: Callable[[Named], Tensor], params: Named) -> Tensor:
    """Of all parameters as one vector."""
    vector = torch.cat([p.reshape(-1) for p in params.values()])
    return hessian(lambda theta: loss(unflatten(theta, params)))(vector)


def unflatten(vector: Tensor, like: Named) -> Named:
    parts = vector.split([p.numel() for p in like.values()])
    return {name: part.reshape(p.shape) for part, (name, p) in zip(parts, like.items(), strict=True)}


@dataclass(kw_only=True)
class AdaHessianOracle:
    """Trains its own float64 copy of a model's trainable parameters; `params` are by name."""

    model: nn.Module
    lr: float = 0.15
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-4
    hessian_power: float = 1.0
    weight_decay: float = 0.0
    update_interval: int = 1
    grads: list[Named] = field(default_factory=list)  # g of every step
    diagonals: list[Named] = field(default_factory=list)  # averaged D of every estimate

    def __post_init__(self):
        self.model = copy.deepcopy(self.model).double()
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.LayerNorm):
                self.model.set_submodule(name, LayerNorm(module))
            if isinstance(module, BATCH_NORMS):
                self.model.set_submodule(name, BatchNorm(module))
        self.params = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        self.kernels = {
            f"{name}.weight" if name else "weight"
            for name, module in self.model.named_modules()
            if isinstance(module, CONVOLUTIONS)
        }

    def step(self, x: Tensor, loss: Callable[[Tensor], Tensor], z: Named) -> None:
        """One step; z are the signs of this step, by name."""

        def f(params: Named) -> Tensor:
            return loss(functional_call(self.model, params, (x,)))

        if len(self.grads) % self.update_interval == 0:
            H = dense_hessian(f, self.params)
            Hz = unflatten(H @ torch.cat([z[name].reshape(-1) for name in self.params]), self.params)
            D = {name: self.diagonal(z[name], Hz[name]) for name in self.params}
            self.diagonals.append({name: self.average(name, D[name]) for name in D})
        self.grads.append(grad(f)(self.params))
        self.params = {name: self.moved(name, theta) for name, theta in self.params.items()}

    def diagonal(self, z: Tensor, Hz: Tensor) -> Tensor:
        return z * Hz

    def average(self, name: str, D: Tensor) -> Tensor:
        """Of each kernel, over its offsets."""
        if name not in self.kernels:
            return D
        dims = tuple(range(2, D.dim()))
        return D.mean(dims, keepdim=True).expand(D.shape)

    def moved(self, name: str, theta: Tensor) -> Tensor:
        m = self.mean([g[name] for g in self.grads], self.beta1)
        v = self.denominator(self.second_moment([D[name] for D in self.diagonals]))
        return theta - self.lr * (m / v + self.weight_decay * theta)

    def second_moment(self, D: list[Tensor]) -> Tensor:
        return self.mean([each**2 for each in D], self.beta2)

    def denominator(self, v: Tensor) -> Tensor:
        return v.sqrt() ** self.hessian_power + self.eps

    @staticmethod
    def mean(values: list[Tensor], beta: float) -> Tensor:
        """The bias-corrected exponential mean."""
        t = len(values)
        return (1 - beta) * sum(beta ** (t - i) * x for i, x in enumerate(values, start=1)) / (1 - beta**t)
