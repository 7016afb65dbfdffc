"""The true Fisher diagonal against a loop over samples and classes, and the measures of agreement against others'."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from optimizers import AdaFisher
from suite.diagnostics import fisher
from suite.diagnostics.fisher import (
    FISHER_ACCURACY,
    agreement,
    estimate,
    estimates,
    fisher_diagonals,
    norm_readings,
    some_samples,
)
from tests.suite.diagnostics.moments import CLASSES, adam, assert_leaves_all, moment, network, sgd

CLOSE = {"rtol": 1e-9, "atol": 1e-14}  # float64; sums in another order


def squared_gradients(taken):
    """By sample and class, the squared gradient of log p by parameter: one backward pass each."""
    model = copy.deepcopy(taken.model).eval()
    found = []
    for x in taken.inputs:
        by_class = []
        for c in range(CLASSES):
            model.zero_grad()
            logits = model(x[None])[0]
            (logits[c] - torch.logsumexp(logits, 0)).backward()
            by_class.append({name: p.grad**2 for name, p in model.named_parameters()})
        found.append(by_class)
    return found


def probabilities(taken):
    with torch.no_grad():
        outputs = copy.deepcopy(taken.model).eval()(taken.inputs)
    return outputs.exp() / outputs.exp().sum(1, keepdim=True)


def weighted(taken, weights):
    """The mean over samples of the weighted sums over classes."""
    squares = squared_gradients(taken)
    total = {name: torch.zeros_like(p) for name, p in taken.model.named_parameters()}
    for i, by_class in enumerate(squares):
        for c, square in enumerate(by_class):
            for name in total:
                total[name] += weights[i][c] * square[name] / len(squares)
    return total


def test_the_exact_diagonal_is_the_expectation_over_classes():
    taken = moment()
    expected = weighted(taken, probabilities(taken))
    found = fisher_diagonals(taken).exact
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **CLOSE)


def test_the_exact_diagonal_of_a_softmax_regression_is_known():
    taken = moment(sgd, nn.Sequential(nn.Linear(5, CLASSES)).double(), num_samples=8, shape=(5,))
    p = probabilities(taken)
    expected = (p * (1 - p)).T @ taken.inputs**2 / 8  # E_c[(1[c = k] - p_k)²] x_i²
    found = fisher_diagonals(taken).exact
    torch.testing.assert_close(found["0.weight"], expected, **CLOSE)
    torch.testing.assert_close(found["0.bias"], (p * (1 - p)).mean(0), **CLOSE)


def test_the_empirical_diagonal_takes_the_labels_of_the_data():
    taken = moment()
    expected = weighted(taken, torch.nn.functional.one_hot(taken.targets, CLASSES))
    for name, value in fisher_diagonals(taken).empirical.items():
        torch.testing.assert_close(value, expected[name], **CLOSE)


def test_drawn_labels_lead_to_the_exact_diagonal(monkeypatch):
    taken = moment()
    few = fisher_diagonals(taken)
    monkeypatch.setattr(fisher, "NUM_DRAWS", 40_000)
    many = fisher_diagonals(taken)
    for name, exact in many.exact.items():
        torch.testing.assert_close(many.monte_carlo[name], exact, rtol=0.1, atol=0.05 * exact.max().item())
    name = "7.weight"
    assert not torch.allclose(few.monte_carlo[name], few.exact[name], rtol=1e-3)


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 9}], ids=["seed", "step"])
def test_drawn_labels_depend_on_seed_and_step(change):
    def drawn(**changes):
        torch.manual_seed(0)
        return fisher_diagonals(moment(**changes)).monte_carlo["7.weight"]

    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), drawn(**change))


@pytest.mark.parametrize(("rows", "entries"), [(1, 1 << 22), (7, 1 << 22), (128, 500)])
def test_how_many_gradients_are_held_at_a_time_changes_nothing(monkeypatch, rows, entries):
    taken = moment()
    expected = fisher_diagonals(taken)
    monkeypatch.setattr(fisher, "MAX_ROWS", rows)
    monkeypatch.setattr(fisher, "MAX_ENTRIES", entries)
    for name, value in fisher_diagonals(taken).exact.items():
        torch.testing.assert_close(value, expected.exact[name], **CLOSE)


def test_some_parameters_alone_have_the_same_diagonal():
    taken = moment()
    found = fisher_diagonals(taken, {"4.bias"}).exact
    assert found.keys() == {"4.bias"}
    torch.testing.assert_close(found["4.bias"], fisher_diagonals(taken).exact["4.bias"], **CLOSE)


def test_samples_are_limited_and_evenly_spaced(monkeypatch):
    monkeypatch.setattr(fisher, "NUM_SAMPLES", 3)
    taken = moment(num_samples=7)
    few = some_samples(taken)
    assert torch.equal(few.inputs, taken.inputs[[0, 3, 6]])
    assert torch.equal(few.targets, taken.targets[[0, 3, 6]])


def test_outputs_that_are_no_logits_are_refused():
    taken = moment(sgd, nn.Sequential(nn.Linear(3, CLASSES)).double(), shape=(3,), steps=0)
    taken.model.append(nn.Unflatten(1, (2, 2)))
    with pytest.raises(ValueError, match=r"outputs of shape \(6, 2, 2\) must be logits \[n, classes\]"):
        fisher_diagonals(taken)


def test_estimates_are_found_by_what_an_optimizer_has():
    for build, expected in {
        AdaFisher: lambda optimizer, p: optimizer.fisher_diag(p),
        adam: lambda optimizer, p: optimizer.state[p]["exp_avg_sq"],
    }.items():
        taken = moment(build)
        found = estimates(taken)
        assert found.keys() == dict(taken.model.named_parameters()).keys()
        for name, p in taken.model.named_parameters():
            assert torch.equal(found[name], expected(taken.optimizer, p))


def test_an_optimizer_without_an_estimate_has_none_and_keeps_its_state():
    taken = moment(sgd, steps=0)
    assert estimates(taken) == {}
    assert len(taken.optimizer.state) == 0


def test_factored_second_moments_are_no_diagonal():
    taken = moment(sgd)
    p = taken.model[7].weight
    taken.optimizer.state[p]["exp_avg_sq"] = torch.ones(len(p))
    assert estimate(taken.optimizer, p) is None


def test_frozen_parameters_are_left_out():
    taken = moment(sgd)
    taken.model[0].weight.requires_grad_(False)
    assert "0.weight" not in fisher_diagonals(taken).exact
    assert "0.weight" not in norm_readings(taken)[0]


def minmax(values):
    return (values - values.min()) / (values.max() - values.min())


def test_norm_readings_are_those_of_statement_and_proof():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.LayerNorm(36),
        nn.Linear(36, CLASSES),
    ).double()
    taken = moment(adam, model)
    as_stated, as_proven = norm_readings(taken)
    model.train()
    h = model[0](taken.inputs)
    a = model[1](h)
    a.retain_grad()
    g = model[2](a)
    b = model[3](g)
    b.retain_grad()
    nn.functional.cross_entropy(model[4](b), taken.targets, reduction="sum").backward()
    center, deviation = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    x = ((h - center) / deviation.sqrt()).detach()
    s = minmax((a.grad**2).mean((0, 2, 3)))
    torch.testing.assert_close(as_stated["1.weight"], s * minmax((h.detach() ** 2).mean((0, 2, 3))), **CLOSE)
    torch.testing.assert_close(as_proven["1.weight"], s * minmax((x**2).mean((0, 2, 3))), rtol=1e-6, atol=1e-9)
    y = ((g - g.mean(1, keepdim=True)) / (g.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()).detach()
    s = minmax((b.grad**2).mean(0))
    torch.testing.assert_close(as_stated["3.weight"], s * minmax((g.detach() ** 2).mean(0)), **CLOSE)
    torch.testing.assert_close(as_proven["3.weight"], s * minmax((y**2).mean(0)), **CLOSE)
    assert as_stated.keys() == as_proven.keys() == {"1.weight", "3.weight"}


def test_agreement_of_known_vectors():
    t = torch.tensor([2.0, 4.0, 8.0])
    assert agreement(t / 2, t) == pytest.approx({
        "relative_error": 0,
        "cosine": 1,
        "rank_correlation": 1,
        "mae": (1 + 2 + 4) / 3,
        "mae_min_max": 0,
    })
    opposed = agreement(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert opposed == pytest.approx({
        "relative_error": 1,
        "cosine": 0,
        "rank_correlation": -1,
        "mae": 1,
        "mae_min_max": 1,
    })


def test_agreement_of_others():
    e, t = torch.rand(40).round(decimals=1), torch.rand(5, 8)  # with ties
    found = agreement(e, t)
    x, y = e.double().numpy(), t.flatten().double().numpy()
    _, residual, *_ = np.linalg.lstsq(x[:, None], y, rcond=None)
    assert found["relative_error"] == pytest.approx(math.sqrt(residual[0]) / np.linalg.norm(y))
    assert found["relative_error"] == pytest.approx(math.sqrt(1 - found["cosine"] ** 2))
    assert found["rank_correlation"] == pytest.approx(spearmanr(x, y).statistic)
    assert found["mae"] == pytest.approx(np.abs(x - y).mean())
    scaled = [(v - v.min()) / (v.max() - v.min()) for v in (x, y)]
    assert found["mae_min_max"] == pytest.approx(np.abs(scaled[0] - scaled[1]).mean())


def test_of_many_entries_evenly_spaced_ones_are_ranked(monkeypatch):
    monkeypatch.setattr(fisher, "MAX_RANKED", 3)
    found = agreement(torch.tensor([1.0, 9.0, 2.0, 0.0, 3.0]), torch.tensor([1.0, 0.0, 2.0, 9.0, 3.0]))
    assert found["rank_correlation"] == pytest.approx(1)


def test_what_is_undefined_is_left_out():
    constant = agreement(torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))
    assert "rank_correlation" not in constant
    assert "cosine" not in agreement(torch.ones(3), torch.zeros(3))
    assert agreement(torch.tensor([1.0, math.nan]), torch.ones(2)) == {}


def test_a_perfect_estimate_has_no_error_at_any_scale_and_a_shuffled_one_has():
    taken = moment(sgd)
    truth = fisher_diagonals(taken).exact
    names = {p: name for name, p in taken.model.named_parameters()}
    taken.optimizer.fisher_diag = lambda p: 3 * truth[names[p]]
    values = FISHER_ACCURACY.measure(taken).values
    assert values["fisher_accuracy/exact/relative_error"] == pytest.approx(0, abs=1e-9)
    assert values["fisher_accuracy/exact/cosine/4.weight"] == pytest.approx(1)
    assert values["fisher_accuracy/exact/mae_min_max"] == pytest.approx(0, abs=1e-9)
    assert values["fisher_accuracy/monte_carlo/relative_error"] == pytest.approx(
        values["fisher_accuracy/sampling/relative_error"]
    )
    taken.optimizer.fisher_diag = lambda p: truth[names[p]].flatten().flip(0).view_as(p)
    values = FISHER_ACCURACY.measure(taken).values
    assert values["fisher_accuracy/exact/relative_error"] > 0.1
    assert values["fisher_accuracy/exact/relative_error/4.weight"] > 0.1


def test_all_comparisons_are_there():
    values = FISHER_ACCURACY.measure(moment()).values
    assert {name.split("/")[1] for name in values} == {
        *("exact", "monte_carlo", "norm_pre", "norm_hat", "empirical", "sampling")
    }
    measures = {"relative_error", "cosine", "rank_correlation", "mae", "mae_min_max"}
    assert {name.split("/")[2] for name in values} == measures
    assert "fisher_accuracy/norm_hat/cosine/1.weight" in values
    without = FISHER_ACCURACY.measure(moment(sgd)).values
    assert not any(name.split("/")[1] in {"exact", "monte_carlo"} for name in without)
    assert "fisher_accuracy/empirical/cosine" in without


def test_a_network_that_has_diverged_gives_no_numbers():
    taken = moment(adam, network())
    with torch.no_grad():
        taken.model[7].weight[0, 0] = math.nan
    assert FISHER_ACCURACY.measure(taken).values == {}


@pytest.mark.parametrize("build", [AdaFisher, adam], ids=["adafisher", "adam"])
def test_measuring_changes_nothing(build):
    assert_leaves_all(FISHER_ACCURACY, moment(build))
