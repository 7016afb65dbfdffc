"""Counts by bins against a loop, and which layers are counted."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from optimizers import AdaFisher
from suite.diagnostics.factors import histogram_layers
from suite.diagnostics.fisher import fisher_diagonals, some_samples
from suite.diagnostics.histograms import FISHER_HISTOGRAMS, edges, histogram
from suite.workloads.digits import build_model as digits
from suite.workloads.networks.convolutional import mlp
from tests.suite.diagnostics.moments import adam, assert_leaves_all, moment, sgd


def by_loop(values):
    counts = [0] * 66
    for value in np.asarray(values).ravel():
        place = 0
        while place < 65 and value >= 10 ** (-12 + 15 * place / 64):
            place += 1
        counts[place] += 1
    return counts


def test_entries_are_counted_by_decades_of_a_fixed_range():
    values = 10 ** (torch.rand(2000, dtype=torch.float64) * 20 - 14)
    assert histogram(values).tolist() == by_loop(values)
    assert edges()[[0, -1]].tolist() == pytest.approx([1e-12, 1e3])


def test_what_is_out_of_range_is_counted_at_the_ends():
    values = torch.tensor([0.0, -1.0, 1e-13, 1e3, math.inf, math.nan, 1.0])
    found = histogram(values)
    assert (found[0], found[-1], found.sum()) == (3, 3, 7)


def test_estimates_and_truth_of_three_layers_are_counted():
    for build in (AdaFisher, adam):
        taken = moment(build)
        found = FISHER_HISTOGRAMS.measure(taken).arrays
        truth = fisher_diagonals(some_samples(taken)).exact
        for role, layer in {"first_convolution": "0", "middle_convolution": "4", "last_linear": "7"}.items():
            params = dict(taken.model.get_submodule(layer).named_parameters())
            if build is AdaFisher:
                estimate = [taken.optimizer.fisher_diag(p) for p in params.values()]
            else:
                estimate = [taken.optimizer.state[p]["exp_avg_sq"] for p in params.values()]
            flat = np.concatenate([each.detach().numpy().ravel() for each in estimate])
            assert found[f"fisher_histogram/{role}/estimate"].tolist() == by_loop(flat)
            flat = np.concatenate([truth[f"{layer}.{name}"].numpy().ravel() for name in params])
            assert found[f"fisher_histogram/{role}/true"].tolist() == by_loop(flat)
        assert torch.equal(found["fisher_histogram/edges"], edges())
        assert len(found) == 7


def test_an_optimizer_without_an_estimate_has_the_truth_alone():
    found = FISHER_HISTOGRAMS.measure(moment(sgd)).arrays
    assert {name.rsplit("/", 1)[1] for name in found} == {"edges", "true"}


def test_a_frozen_layer_is_left_out():
    taken = moment(sgd)
    taken.model[0].requires_grad_(False)
    assert "fisher_histogram/first_convolution/true" not in FISHER_HISTOGRAMS.measure(taken).arrays


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (digits, {"first_convolution": "0", "middle_convolution": "3", "last_linear": "10"}),
        (resnet18, {"first_convolution": "conv1", "middle_convolution": "layer3.0.conv1", "last_linear": "fc"}),
        (mlp, {"first_linear": "0", "last_linear": "2"}),
        (lambda: nn.Linear(1, 1), {"last_linear": ""}),
        (nn.ReLU, {}),
    ],
    ids=["digits", "resnet18", "mlp", "one layer", "none"],
)
def test_layers_are_first_middle_and_last(build, expected):
    assert histogram_layers(build()) == expected


def test_a_network_that_is_one_layer_has_a_histogram():
    found = FISHER_HISTOGRAMS.measure(moment(adam, nn.Linear(3, 4).double(), shape=(3,))).arrays
    assert found["fisher_histogram/last_linear/true"].sum() == 16
    assert found["fisher_histogram/last_linear/estimate"].sum() == 16


@pytest.mark.parametrize("build", [AdaFisher, adam], ids=["adafisher", "adam"])
def test_measuring_changes_nothing(build):
    assert_leaves_all(FISHER_HISTOGRAMS, moment(build))
