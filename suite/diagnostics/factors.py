"""Which layers are looked into, and their full Kronecker factors on given samples.

A layer with pre-activation ``a = θ h̄`` has ``H = E[h̄ h̄ᵀ]`` and ``S = E[s sᵀ]``, s the derivative of a sample's own loss
by a, both means over rows (AdaFisher, Section 3; convolutions by Appendix A.3). Optimizers keep less of them.

Legend: n samples, *rows* samples × positions, I inputs of a layer (a patch's entries for a convolution; one more, that
is always 1, where it has a bias), O outputs.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm

from optimizers.rules import PAPER_RULES, conv_geometry
from suite.diagnostics.base import Moment

Use = tuple[Tensor, Tensor]  # the input of one use of a layer, and s
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DEPTH = 0.9  # of the paper's convolution: the 37th of ResNet-18's 41 layers
MAX_SIZE = 4608  # of a factor: that of the paper's convolution; of larger ones rows and columns are picked evenly
CHUNK = 32  # samples whose rows are held at a time


def picked(size: int, most: int) -> Tensor:
    """Return evenly spaced indices out of ``size``, all of them if they are no more than ``most``."""
    return torch.linspace(0, size - 1, min(size, most), dtype=torch.float64).round().long()


def structure_layers(model: nn.Module) -> dict[str, str]:
    """Return the two layers whose Kronecker factors are drawn (Figs 3, 7, 8, 9).

    Of the convolutions that are larger than a pixel and not grouped, the one nearest to nine tenths of the way from the
    first to the last of the layers with a rule: the paper's 37th of 41 in ResNet-18, the last one in small networks.

    Args:
        model: The bare network.

    Returns:
        Qualified names by role, ``convolution`` and ``last_linear``, of those that there are.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, tuple(PAPER_RULES))]
    position = {name: place for place, (name, _) in enumerate(layers)}
    convs = {name: module for name, module in layers if isinstance(module, CONVOLUTIONS) and module.groups == 1}
    wide = [name for name, module in convs.items() if max(module.kernel_size) > 1]
    roles = {}
    if convs:
        goal = DEPTH * (len(layers) - 1)
        roles["convolution"] = min(wide or list(convs), key=lambda name: abs(position[name] - goal))
    linears = _named(model, (nn.Linear,))
    return roles | ({"last_linear": linears[-1]} if linears else {})


def histogram_layers(model: nn.Module) -> dict[str, str]:
    """Return the three layers whose Fisher diagonals are drawn (Figs 4 and 11).

    Args:
        model: The bare network.

    Returns:
        Qualified names by role: ``first_convolution``, ``middle_convolution`` (of n the one of index n // 2) and
        ``last_linear``; without convolutions ``first_linear`` and ``middle_linear``. A layer is there once.
    """
    convs, linears = _named(model, CONVOLUTIONS), _named(model, (nn.Linear,))
    kind, layers = ("convolution", convs) if convs else ("linear", linears)
    candidates = [("last_linear", linears[-1])] if linears else []
    if layers:
        candidates += [(f"first_{kind}", layers[0]), (f"middle_{kind}", layers[len(layers) // 2])]
    roles: dict[str, str] = {}
    for role, name in candidates:
        if name not in roles.values():
            roles[role] = name
    return roles


def _named(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def record(moment: Moment, names: Iterable[str]) -> dict[str, list[Use]]:
    """Return what layers took and the derivative of the loss by what they gave, of a forward in training mode.

    It runs on a copy: statistics of BatchNorm, gradients and the random state of the run stay as they are.

    Args:
        moment: The moment; its loss is a mean over the samples.
        names: Qualified names of layers.

    Returns:
        By name, for each use of the layer its first input and s, that of each sample's own loss: n times the
        derivative of the mean. A use that no gradient reaches is left out.
    """
    copy = solitary_copy(moment.model)
    seen: dict[str, list[tuple[Tensor, GradientEdge]]] = {name: [] for name in names}
    for name, uses in seen.items():
        copy.get_submodule(name).register_forward_hook(partial(_keep, uses), with_kwargs=True)
    with torch.enable_grad(), _own_randomness(moment):
        loss = moment.loss(copy(moment.inputs), moment.targets)
        edges = [edge for uses in seen.values() for _, edge in uses]
        found = iter(torch.autograd.grad(loss, edges, allow_unused=True) if edges else ())
    pairs = {name: [(h, next(found)) for h, _ in uses] for name, uses in seen.items()}
    samples = len(moment.inputs)
    return {name: [(h, s * samples) for h, s in uses if s is not None] for name, uses in pairs.items()}


def _keep(
    uses: list[tuple[Tensor, GradientEdge]],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Tensor,
) -> None:
    if output.requires_grad:
        h = next(iter((*args, *kwargs.values())))
        uses.append((h.detach().clone(), get_gradient_edge(output)))  # before any in-place operation on either


class _Solitary(_BatchNorm):
    """Batch normalization over the samples of this process, of any number of positions."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def solitary_copy(module: nn.Module) -> nn.Module:
    """Return a copy whose forward waits for no other worker, as only one of them measures."""
    copy = deepcopy(module)
    for part in copy.modules():
        if isinstance(part, nn.SyncBatchNorm):
            part.__class__ = _Solitary  # type: ignore[assignment]
    return copy


@contextmanager
def _own_randomness(moment: Moment) -> Iterator[None]:
    """Let dropout draw from the moment's seed, and leave the random state as it was."""
    device = moment.inputs.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(moment.seed)
        yield


def full_factors(module: nn.Module, uses: Sequence[Use]) -> tuple[Tensor, Tensor]:
    """Return H and S of a layer, or evenly spaced rows and columns of those that are larger than :data:`MAX_SIZE`.

    Args:
        module: A Linear, or a convolution that is not grouped.
        uses: As :func:`record` gives them, not empty.

    Returns:
        H of shape ``[I, I]``, the order that of a flattened weight with the bias last, and S of shape ``[O, O]``, both
        float64.
    """
    return (
        _second_moment(_input_rows(module, chunk) for h, _ in uses for chunk in h.split(CHUNK)),
        _second_moment(_grad_rows(module, chunk) for _, s in uses for chunk in s.split(CHUNK)),
    )


def _second_moment(chunks: Iterable[Tensor]) -> Tensor:
    """Return the mean of x xᵀ over all rows x of all chunks."""
    total, num_rows = torch.zeros(()), 0
    for chunk in chunks:
        x = chunk[:, picked(chunk.shape[1], MAX_SIZE).to(chunk.device)].double()
        total = total.to(x) + x.T @ x
        num_rows += len(x)
    return total / num_rows


def _input_rows(module: nn.Module, h: Tensor) -> Tensor:
    """Return h̄, shape ``[rows, I]``."""
    rows = _patches(module, h) if isinstance(module, CONVOLUTIONS) else h.reshape(-1, h.shape[-1])
    return F.pad(rows, (0, int(module.bias is not None)), value=1.0)


def _grad_rows(module: nn.Module, s: Tensor) -> Tensor:
    """Return s, shape ``[rows, O]``."""
    by_channel = s.movedim(1, -1) if isinstance(module, CONVOLUTIONS) else s
    return by_channel.reshape(-1, by_channel.shape[-1])


def _patches(conv: nn.Module, h: Tensor) -> Tensor:
    """Return the im2col patches of a convolution's input, shape ``[rows, C * K]``, the channel outermost."""
    geometry = conv_geometry(conv)
    mode = "constant" if geometry["padding_mode"] == "zeros" else geometry["padding_mode"]
    q = F.pad(h, tuple(geometry["padding"]), mode=mode)
    num_dims = len(geometry["kernel_size"])
    for dim, (kernel, step, spacing) in enumerate(
        zip(geometry["kernel_size"], geometry["stride"], geometry["dilation"], strict=True), start=2
    ):
        reach = q.shape[dim] - spacing * (kernel - 1)  # of the positions that one kernel offset meets
        q = q.unfold(dim, reach, spacing)[..., ::step]
    samples, channels, *sizes = q.shape
    entries = channels * int(torch.Size(sizes[:num_dims]).numel())
    return q.reshape(samples, entries, -1).transpose(1, 2).reshape(-1, entries)
