"""Where the two weights of a first layer go, and the loss over their plane (Figs 1 and 13, Appendix C)."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from suite.diagnostics.base import Diagnostic, Finding, Moment

HALF_WIDTH = 3.0  # of the plane, around 0: four times the range that nn.Linear draws two inputs' weights from
NUM_POINTS = 61  # a side: 0.1 apart


def first_weight(model: nn.Module) -> str:
    """Return the name of a network's first weight, which has to lie in a plane.

    Args:
        model: The bare network.

    Returns:
        Its qualified name.

    Raises:
        ValueError: If it has not two entries.
    """
    name, weight = next(iter(model.named_parameters()), ("", torch.empty(0)))
    if weight.numel() != 2:
        raise ValueError(f"the first weight, of shape {tuple(weight.shape)}, must have two entries for a trajectory")
    return name


def axis() -> Tensor:
    """Return the coordinates of the plane's points along either weight, shape ``[61]``."""
    middle = NUM_POINTS // 2
    return torch.arange(-middle, middle + 1, dtype=torch.float64) * HALF_WIDTH / middle


def trajectory(moment: Moment) -> Finding:
    """Return a network's first two weights and its loss on the moment's samples, in eval mode.

    Args:
        moment: The moment.

    Returns:
        ``trajectory/weights``, shape ``[2]``, and ``trajectory/loss``.
    """
    model = deepcopy(moment.model).eval()
    weight = model.get_parameter(first_weight(model)).detach().flatten()
    with torch.no_grad():
        loss = moment.loss(model(moment.inputs), moment.targets).item()
    return Finding(values={"trajectory/loss": loss}, arrays={"trajectory/weights": weight})


def loss_plane(moment: Moment) -> Finding:
    """Return the loss over the plane of the first two weights, everything else as it is.

    The paper's surface interpolates the losses that trajectories have met; this one is computed at every point.

    Args:
        moment: The moment.

    Returns:
        ``loss_plane/loss``, shape ``[61, 61]``, the row the first weight and the column the second;
        ``loss_plane/axis``, the coordinates of both.
    """
    model = deepcopy(moment.model).eval()
    name = first_weight(model)
    weight = model.get_parameter(name)

    def loss_at(point: Tensor) -> Tensor:
        return moment.loss(functional_call(model, {name: point.view_as(weight)}, (moment.inputs,)), moment.targets)

    points = torch.cartesian_prod(axis(), axis()).to(weight)
    with torch.no_grad():
        losses: Tensor = vmap(loss_at, chunk_size=NUM_POINTS)(points)
    return Finding(arrays={"loss_plane/axis": axis(), "loss_plane/loss": losses.view(NUM_POINTS, NUM_POINTS)})


TRAJECTORY = Diagnostic(name="trajectory", measure=trajectory)
LOSS_PLANE = Diagnostic(name="loss_plane", measure=loss_plane, at=(1.0,))
