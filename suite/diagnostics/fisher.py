r"""How near an optimizer's estimate of the Fisher diagonal is to the true one (Fig 12 D).

The true Fisher of the model's own predictions on n samples x:

.. math:: F = \frac{1}{n} \sum_x \sum_c p_c(x) \left( \partial \log p_c(x) / \partial\theta \right)^2

in eval mode, so that a sample's prediction depends on no other: BatchNorm uses its running statistics, as constants.
"""

import math
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.optim import Optimizer

from optimizers.draws import generator_of
from optimizers.factors import min_max
from optimizers.rules import NORMS, PAPER_RULES
from suite.diagnostics.base import Diagnostic, Finding, Moment
from suite.diagnostics.factors import picked, record, solitary_copy

NUM_SAMPLES = 64
NUM_DRAWS = 16  # labels a sample
MAX_ENTRIES = 1 << 24  # of the gradients that are held at a time
MAX_ROWS = 128  # pairs of sample and class that are differentiated at a time
MAX_RANKED = 1 << 18  # entries that a rank correlation is taken over

Diagonals = dict[str, Tensor]  # by parameter


@dataclass(frozen=True, kw_only=True)
class Fisher:
    """Diagonals of the Fisher information by parameter, each of the parameter's shape.

    Args:
        exact: Its expectation over the classes.
        monte_carlo: Its mean over drawn labels.
        empirical: With the labels of the data, which is no Fisher information.
    """

    exact: Diagonals
    monte_carlo: Diagonals
    empirical: Diagonals


def some_samples(moment: Moment) -> Moment:
    """Return a moment with :data:`NUM_SAMPLES` of its samples, evenly spaced."""
    places = picked(len(moment.inputs), NUM_SAMPLES).to(moment.inputs.device)
    return replace(moment, inputs=moment.inputs[places], targets=moment.targets[places])


def fisher_diagonals(moment: Moment, names: Collection[str] | None = None) -> Fisher:
    """Return the Fisher diagonal on the samples of a moment; drawn labels depend on its seed and step.

    Args:
        moment: The moment, of a classifier.
        names: Of the parameters; None for all that take gradients.

    Returns:
        The three diagonals.

    Raises:
        ValueError: If the model's outputs are no logits of shape ``[n, classes]``.
    """
    model = deepcopy(moment.model).eval()
    params = {
        name: param.detach()
        for name, param in model.named_parameters()
        if (param.requires_grad if names is None else name in names)
    }
    with torch.no_grad():
        logits = model(moment.inputs)
    if logits.dim() != 2:
        raise ValueError(f"outputs of shape {tuple(logits.shape)} must be logits [n, classes] for a Fisher diagonal")
    weights = _class_weights(moment, logits)
    exact, monte_carlo, empirical = _weighted_squares(model, params, moment.inputs, weights)
    return Fisher(exact=exact, monte_carlo=monte_carlo, empirical=empirical)


def _class_weights(moment: Moment, logits: Tensor) -> Tensor:
    """Return by what the squared gradient of each class counts for each sample, shape ``[3, n, classes]``."""
    probs = logits.double().softmax(1)
    if not probs.isfinite().all():  # a network that has diverged predicts nothing
        return probs.new_full((3, *probs.shape), torch.nan)
    generator = generator_of("cpu", moment.seed, moment.step)
    draws = torch.multinomial(probs.cpu(), NUM_DRAWS, replacement=True, generator=generator).to(probs.device)
    drawn, labelled = torch.zeros_like(probs), torch.zeros_like(probs)
    drawn.scatter_add_(1, draws, torch.ones_like(draws, dtype=probs.dtype))
    labelled.scatter_(1, moment.targets[:, None], 1.0)
    return torch.stack([probs, drawn / NUM_DRAWS, labelled]) / len(probs)


def _weighted_squares(model: nn.Module, params: Diagonals, inputs: Tensor, weights: Tensor) -> list[Diagonals]:
    """Return for each set of weights the weighted sum of the squared gradients of log p_c of every sample and class.

    Args:
        model: In eval mode.
        params: What to differentiate by.
        inputs: Shape ``[n, ...]``.
        weights: Shape ``[sets, n, classes]``.

    Returns:
        One a set.
    """

    def log_prob(values: Diagonals, x: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, values, (x.unsqueeze(0),))
        return logits.log_softmax(1).gather(1, label.view(1, 1)).sum()

    gradients = vmap(grad(log_prob), in_dims=(None, 0, 0))
    num_sets, num_samples, num_classes = weights.shape
    totals = [{name: torch.zeros_like(param) for name, param in params.items()} for _ in range(num_sets)]
    num_rows = max(1, min(MAX_ROWS, MAX_ENTRIES // max(1, sum(param.numel() for param in params.values()))))
    for rows in torch.arange(num_samples * num_classes, device=inputs.device).split(num_rows):
        samples, labels = rows // num_classes, rows % num_classes
        for name, gradient in gradients(params, inputs[samples], labels).items():
            sums = weights[:, samples, labels].to(gradient.dtype) @ gradient.square_().flatten(1)
            for total, added in zip(totals, sums, strict=True):
                total[name] += added.view_as(total[name])
    return totals


def estimate(optimizer: Optimizer, param: nn.Parameter) -> Tensor | None:
    """Return what stands for the Fisher diagonal of a parameter in an optimizer.

    Args:
        optimizer: Any.
        param: One of its parameters.

    Returns:
        Its ``fisher_diag``, else its state's second moment ``exp_avg_sq``; None if it has neither, entry by entry.
    """
    fisher_diag = getattr(optimizer, "fisher_diag", None)
    found = fisher_diag(param) if fisher_diag else optimizer.state.get(param, {}).get("exp_avg_sq")
    is_diagonal = isinstance(found, Tensor) and found.shape == param.shape
    return found.detach() if is_diagonal else None


def estimates(moment: Moment) -> Diagonals:
    """Return :func:`estimate` of all parameters that take gradients and have one."""
    trainable = {name: param for name, param in moment.model.named_parameters() if param.requires_grad}
    found = {name: estimate(moment.optimizer, param) for name, param in trainable.items()}
    return {name: diagonal for name, diagonal in found.items() if diagonal is not None}


def norm_readings(moment: Moment) -> tuple[Diagonals, Diagonals]:
    """Return H' · S' of the scales of normalization layers by both readings of Prop. 3.1, on a moment's samples.

    Args:
        moment: The moment.

    Returns:
        By parameter, with H of the layer's input before normalization as the statement has it, and of x̂, the
        normalized input, as its proof has it.
    """
    norms = {
        name: module
        for name, module in moment.model.named_modules()
        if isinstance(module, NORMS) and module.weight is not None and module.weight.requires_grad
    }
    as_stated: Diagonals = {}
    as_proven: Diagonals = {}
    for name, uses in record(moment, norms).items():
        rule = next(rule for kind, rule in PAPER_RULES.items() if isinstance(norms[name], kind))
        module = solitary_copy(norms[name])  # its statistics change
        if not uses or not all(rule.fits(module, h) for h, _ in uses):
            continue
        neutral = {key: torch.full_like(p, float(key == "weight")) for key, p in module.named_parameters()}
        s = _normalized(sum(rule.grad_sum(module, s) for _, s in uses))
        param = f"{name}.weight" if name else "weight"
        as_stated[param] = s * _normalized(sum(rule.input_sum(module, h) for h, _ in uses))
        x_hat = (functional_call(module, neutral, (h,)).detach() for h, _ in uses)
        as_proven[param] = s * _normalized(sum(rule.input_sum(module, each) for each in x_hat))
    return as_stated, as_proven


def _normalized(values: Tensor | int) -> Tensor:
    assert isinstance(values, Tensor)
    return min_max(values, torch.tensor([values.numel()], device=values.device))


def agreement(found: Tensor, truth: Tensor) -> dict[str, float]:
    """Return by several measures how near an estimate is to the truth.

    Args:
        found: Any shape.
        truth: The same number of entries.

    Returns:
        ``relative_error``, ``cosine``, ``rank_correlation``, ``mae`` and ``mae_min_max``; those that are undefined,
        as of zeros or constants, are left out.
    """
    e, t = found.detach().flatten().double(), truth.flatten().double()
    if not (e.isfinite().all() and t.isfinite().all()):
        return {}
    size = torch.tensor([t.numel()], device=t.device)
    measures = {
        "relative_error": _scaled_error(e, t),
        "cosine": _cosine(e, t),
        "rank_correlation": _rank_correlation(e, t),
        "mae": (e - t).abs().mean().item(),
        "mae_min_max": (min_max(e, size) - min_max(t, size)).abs().mean().item(),
    }
    return {name: value for name, value in measures.items() if math.isfinite(value)}


def _scaled_error(e: Tensor, t: Tensor) -> float:
    """Return the least ``|c e - t| / |t|`` over scalars c."""
    c = (e @ t) / (e @ e)
    return float((c * e - t).norm() / t.norm())


def _cosine(x: Tensor, y: Tensor) -> float:
    return float((x @ y) / (x.norm() * y.norm()))


def _rank_correlation(e: Tensor, t: Tensor) -> float:
    """Return Spearman's coefficient, of evenly spaced entries where there are more than :data:`MAX_RANKED`."""
    places = picked(e.numel(), MAX_RANKED).to(e.device)
    return _cosine(*(ranks - ranks.mean() for ranks in (_ranks(e[places]), _ranks(t[places]))))


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each entry, the mean rank where several are equal."""
    _, places, counts = torch.unique(values, return_inverse=True, return_counts=True)
    by_value: Tensor = counts.cumsum(0) - (counts - 1) / 2
    return by_value[places].double()


def compare(
    found: Mapping[str, Tensor], truth: Mapping[str, Tensor], prefix: str, each: bool = True
) -> dict[str, float]:
    """Return the agreement over all parameters together, and of each.

    Args:
        found: Estimates by parameter.
        truth: Of these parameters at least.
        prefix: Of the names.
        each: Whether each parameter is compared by itself too.

    Returns:
        ``<prefix>/<measure>`` and ``<prefix>/<measure>/<parameter>``; empty without estimates.
    """
    if not found:
        return {}
    pairs = {name: (e, truth[name]) for name, e in found.items()}
    whole = agreement(*(torch.cat([pair[side].flatten() for pair in pairs.values()]) for side in (0, 1)))
    values = {f"{prefix}/{measure}": value for measure, value in whole.items()}
    for name, pair in pairs.items() if each else ():
        values |= {f"{prefix}/{measure}/{name}": value for measure, value in agreement(*pair).items()}
    return values


def fisher_accuracy(moment: Moment) -> Finding:
    """Return how near the optimizer's estimate is to the true Fisher diagonal, and what errors its parts would make.

    Args:
        moment: The moment.

    Returns:
        Under ``fisher_accuracy/``: ``exact`` and ``monte_carlo``, the estimate against either truth; ``norm_pre`` and
        ``norm_hat``, the readings of Prop. 3.1 against the exact one; ``empirical`` and ``sampling``, the empirical
        and the Monte-Carlo diagonal against the exact one.
    """
    moment = some_samples(moment)
    truth = fisher_diagonals(moment)
    found = estimates(moment)
    as_stated, as_proven = norm_readings(moment)
    return Finding(
        values={
            **compare(found, truth.exact, "fisher_accuracy/exact"),
            **compare(found, truth.monte_carlo, "fisher_accuracy/monte_carlo"),
            **compare(as_stated, truth.exact, "fisher_accuracy/norm_pre"),
            **compare(as_proven, truth.exact, "fisher_accuracy/norm_hat"),
            **compare(truth.empirical, truth.exact, "fisher_accuracy/empirical", each=False),
            **compare(truth.monte_carlo, truth.exact, "fisher_accuracy/sampling", each=False),
        }
    )


FISHER_ACCURACY = Diagnostic(name="fisher_accuracy", measure=fisher_accuracy, at=(0.1, 0.25, 0.5, 0.75, 1.0))
