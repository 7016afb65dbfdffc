import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from suite.training.evaluation import Score, evaluate, take_buffers_of_rank_0
from suite.training.workers import Workers
from suite.workloads import TensorSplit
from tests.suite import tiny

CPU = torch.device("cpu")
TOLERANCE = 1e-6  # float32 means over parts of the split, instead of over the whole


def wrong(outputs, targets):
    return (outputs.argmax(dim=1) != targets).float()


def sample_loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


class Worker(Workers):
    """One of several workers, whose sums go nowhere."""

    def __init__(self, rank, num_workers):
        super().__init__()
        self.rank, self.num_workers = rank, num_workers


@pytest.mark.parametrize("batch_size", [512, 7], ids=["whole", "in parts"])
def test_a_score_is_the_plain_mean(batch_size):
    workload = replace(tiny.NOISY, eval_batch_size=batch_size, more_metrics={"wrong": wrong})
    model, test = tiny.build_noisy().train(), tiny.load().test
    with torch.no_grad():
        outputs = model.eval()(test.inputs)
    loss, metric = F.cross_entropy(outputs, test.targets).item(), tiny.accuracy(outputs, test.targets).mean().item()
    score = evaluate(model.train(), test, workload, Workers(), CPU)
    expected = {"wrong": pytest.approx(1 - metric, rel=TOLERANCE)}
    assert score == Score(pytest.approx(loss, rel=TOLERANCE), pytest.approx(metric, rel=TOLERANCE), expected)


@pytest.mark.parametrize("batch_size", [512, 7], ids=["whole", "in parts"])
def test_what_is_reported_is_of_the_mean_over_all_samples(batch_size):
    model, test = tiny.build_mlp(), tiny.load().test
    workload = replace(tiny.MLP, metric=sample_loss, of_mean=math.exp, eval_batch_size=batch_size)
    score = evaluate(model, test, workload, Workers(), CPU)
    assert score.metric == pytest.approx(math.exp(score.loss), rel=TOLERANCE)


def test_evaluations_are_not_augmented():
    seen = []

    class Noted(TensorSplit):
        def take(self, picked, draws=None):
            seen.append(draws)
            return super().take(picked, draws)

    test = tiny.load().test
    evaluate(tiny.build_mlp(), Noted(test.inputs, test.targets), tiny.MLP, Workers(), CPU)
    assert seen == [None]


def test_the_model_is_left_in_training_mode_and_otherwise_alone():
    model = tiny.build_noisy().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, tiny.load().val, tiny.NOISY, Workers(), CPU)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("num_workers", [2, 3])
def test_the_workers_parts_make_up_the_whole(num_workers):
    model, test = tiny.build_mlp(), tiny.load().test
    whole = evaluate(model, test, tiny.MLP, Workers(), CPU)
    parts = [evaluate(model, test, tiny.MLP, Worker(rank, num_workers), CPU) for rank in range(num_workers)]
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=TOLERANCE)
    assert sum(part.metric for part in parts) == pytest.approx(whole.metric, rel=TOLERANCE)


@pytest.mark.parametrize(("rank", "num_workers"), [(1, 2), (2, 3)])
def test_a_worker_without_samples_adds_nothing(rank, num_workers):
    split = TensorSplit(tiny.load().test.inputs[:1], tiny.load().test.targets[:1])
    assert evaluate(tiny.build_mlp(), split, tiny.MLP, Worker(rank, num_workers), CPU) == Score(0, 0, {})


def test_alone_there_are_no_buffers_to_take():
    model = tiny.build_noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_buffers_of_rank_0(model, Workers())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
