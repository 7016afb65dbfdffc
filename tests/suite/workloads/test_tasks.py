"""Metrics by value, and which statistics the small data sets are standardized by."""

import math

import pytest
import torch

from suite.workloads import REGISTRY, digits, iris
from suite.workloads.tasks import accuracy, perplexity, sample_token_loss, token_loss, top5_accuracy

LOGITS = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]] * 7)  # ranks 1 to 7
TARGETS = torch.arange(7)
ROUND_OFF = 1e-5  # float32


def test_top_1():
    assert accuracy(LOGITS, TARGETS).tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_top_5():
    assert top5_accuracy(LOGITS, TARGETS).tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_the_loss_of_a_token_is_minus_the_log_of_its_probability():
    probabilities = torch.tensor([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]], [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]])
    targets = torch.tensor([[0, 2], [2, 1]])
    each = -torch.tensor([[0.5, 0.125], [0.5, 0.25]]).log()
    assert torch.allclose(sample_token_loss(probabilities.log(), targets), each.mean(1))
    assert torch.allclose(token_loss(probabilities.log(), targets), each.mean())
    assert perplexity(each.mean().item()) == pytest.approx((1 / (0.5 * 0.125 * 0.5 * 0.25)) ** 0.25, rel=ROUND_OFF)


@pytest.mark.parametrize(("loss", "value"), [(0.0, 1.0), (700.0, math.exp(700)), (1e9, math.exp(700))])
def test_a_perplexity_is_finite(loss, value):
    assert perplexity(loss) == value


def test_the_perplexity_of_what_is_not_finite_is_not_finite():
    assert math.isnan(perplexity(math.nan))


def test_digits_are_standardized_by_the_training_images():
    data = digits.load()
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=ROUND_OFF)
    assert data.train.inputs.std(unbiased=False).item() == pytest.approx(1, abs=ROUND_OFF)
    assert abs(data.val.inputs.mean().item()) > 10 * ROUND_OFF


def test_irises_are_projected_by_the_training_flowers():
    data = iris.load()
    centred = data.train.inputs.double()
    assert centred.mean(0).abs().max() < ROUND_OFF
    covariance = centred.T @ centred
    assert covariance[0, 1].abs() < ROUND_OFF * covariance[0, 0]
    assert covariance[0, 0] > covariance[1, 1]
    every = torch.cat([data.train.inputs, data.val.inputs, data.test.inputs])
    assert every.mean(0).abs().max() > 10 * ROUND_OFF


@pytest.mark.parametrize("workload", [name for name in REGISTRY if name.startswith("cifar")])
def test_a_variant_is_what_its_name_says(workload):
    spec = REGISTRY[workload]
    assert spec.load.keywords == {"cutout": workload.endswith("_cutout")}
    assert spec.build_model.keywords.get("pretrained", False) == workload.endswith("_pretrained")
    num_classes = int(workload.partition("_")[0].removeprefix("cifar"))
    assert spec.load.args == (num_classes,)
    assert spec.build_model.keywords["num_classes"] == num_classes


def test_pretrained_weights_are_asked_for(monkeypatch):
    asked = []
    module = "suite.workloads.networks.convolutional.load_pretrained"
    monkeypatch.setattr(module, lambda model, name, *, fresh: asked.append(name))
    REGISTRY["cifar10_mobilenetv3_pretrained"].build_model()
    REGISTRY["cifar10_mobilenetv3"].build_model()
    assert asked == ["mobilenet_v3_large"]
