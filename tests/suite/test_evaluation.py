import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from suite.training import evaluation
from suite.training.evaluation import Score, evaluate, take_buffers_of_rank_0
from suite.training.workers import Workers
from suite.workloads import Split
from tests.suite import tiny

CPU = torch.device("cpu")
TOLERANCE = 1e-6  # float32 means over parts of the split, instead of over the whole


class Worker(Workers):
    """One of several workers, whose sums go nowhere."""

    def __init__(self, rank, num_workers):
        super().__init__()
        self.rank, self.num_workers = rank, num_workers


@pytest.mark.parametrize("batch_size", [512, 7], ids=["whole", "in parts"])
def test_a_score_is_the_plain_mean(monkeypatch, batch_size):
    monkeypatch.setattr(evaluation, "EVAL_BATCH_SIZE", batch_size)
    model, test = tiny.build_noisy().train(), tiny.load().test
    with torch.no_grad():
        outputs = model.eval()(test.inputs)
    loss, metric = F.cross_entropy(outputs, test.targets).item(), tiny.accuracy(outputs, test.targets).mean().item()
    score = evaluate(model.train(), test, tiny.NOISY, Workers(), CPU)
    assert score == Score(pytest.approx(loss, rel=TOLERANCE), pytest.approx(metric, rel=TOLERANCE))


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


def test_a_worker_without_samples_adds_nothing():
    split = Split(tiny.load().test.inputs[:1], tiny.load().test.targets[:1])
    assert evaluate(tiny.build_mlp(), split, tiny.MLP, Worker(1, 2), CPU) == Score(0, 0)


def test_alone_there_are_no_buffers_to_take():
    model = tiny.build_noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_buffers_of_rank_0(model, Workers())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
