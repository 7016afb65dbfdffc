"""Two workers against one, and against themselves after a stop: all that needs processes, in one pair of them."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from suite.config import Schedule
from suite.training.clock import TrainClock
from suite.training.limits import StepLimit
from suite.training.loop import train
from suite.training.workers import Workers
from suite.workloads import Data, TensorSplit, digits
from tests import gloo
from tests.suite import tiny
from tests.suite.test_loop import Memory, StoppedError, assert_same, is_equal, told

pytestmark = pytest.mark.dist

BATCH_SIZE, NUM_STEPS = 32, 20
TOLERANCE = 1e-9  # float64 round-off over 20 steps
OPTIMIZERS = {"sgd": 0.05, "adam": 1e-3, "adafisher": 1e-3, "adahessian": 0.01}
RESUMED = ("adam", "adafisher", "adafisher_released", "adahessian")
TICK_S = 1.0  # 3 looks a step: a checkpoint each 10 steps


def load():
    def double(split):
        return TensorSplit(split.inputs.double(), split.targets)

    data = digits.load()
    return Data(double(data.train), double(data.val), double(data.test))


def build_model():
    """The digits CNN, whose forward mixes no samples with LayerNorm in the place of BatchNorm."""
    model = digits.build_model()
    model[1], model[4] = nn.LayerNorm([16, 8, 8]), nn.LayerNorm([32, 8, 8])
    return model.double()


CNN = tiny.workload("cnn", build_model, load=load)


def run(task, workers, checkpoints=None, num_steps=NUM_STEPS):
    """Train, and return the outcome with the model as it was built last."""
    built, build_model = [], task.workload.build_model

    def build():
        built.append(build_model())
        return built[-1]

    task = replace(task, workload=replace(task.workload, build_model=build))
    clock = TrainClock(task.device, tiny.FakeClock(TICK_S))
    probe = []
    outcome = train(
        task,
        limit=StepLimit(num_steps),
        clock=clock,
        workers=workers,
        checkpoints=checkpoints,
        probes=[lambda _, optimizer, **_at: probe.append(copy.deepcopy(optimizer.state_dict())) or ({}, {})],
    )
    return {"model": built[-1].state_dict(), "optimizer": probe[-1] if probe else None, "told": told(outcome)}


def cnn_task(optimizer, num_workers):
    plan = {"batch_size": BATCH_SIZE, "num_workers": num_workers, "schedule": Schedule(warmup_frac=0.2)}
    return tiny.task(optimizer, CNN, {"lr": OPTIMIZERS[optimizer]}, **plan)


def noisy_task(optimizer):
    return tiny.task(optimizer, tiny.NOISY, num_workers=2)


def work(rank, folder):
    workers = Workers.join()
    results = {"shared": workers.share({"rank": rank}), "maximum": workers.maximum([rank, -rank])}
    results["mean"] = workers.mean(torch.tensor([rank, 4.0])).tolist()
    for optimizer in OPTIMIZERS:
        results["equal", optimizer] = run(cnn_task(optimizer, 2), workers)
    for optimizer in RESUMED:
        results["whole", optimizer] = run(noisy_task(optimizer), workers, Memory(), num_steps=34)
        results["resumed", optimizer] = resume(noisy_task(optimizer), workers)
    torch.save(results, Path(folder, f"{rank}.pt"))


class Leaving(StepLimit):
    """Ends the process before a step, on all workers."""

    def frac_used(self, step):
        if step == 27:
            raise StoppedError
        return super().frac_used(step)


def resume(task, workers):
    checkpoints = Memory()
    clock = TrainClock(task.device, tiny.FakeClock(TICK_S))
    with pytest.raises(StoppedError):
        train(task, limit=Leaving(34), clock=clock, workers=workers, checkpoints=checkpoints)
    assert checkpoints.num_written == (2 if workers.rank == 0 else 0)
    return run(task, workers, checkpoints, num_steps=34)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    gloo.spawn(work, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_what_the_workers_tell_each_other(results):
    for told_to in results:
        assert told_to["shared"] == {"rank": 0}
        assert told_to["maximum"] == [1, 0]
        assert told_to["mean"] == [0.5, 4]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_workers_equal_one_with_their_batches(results, optimizer):
    one, two = run(cnn_task(optimizer, 1), Workers()), results[0]["equal", optimizer]
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=name)
    initial = run(cnn_task(optimizer, 1), Workers(), num_steps=1)["model"]
    assert any((one["model"][name] - value).abs().max() > 1e-4 for name, value in initial.items())  # it has moved
    for name in ("train_loss", "val_loss", "test_loss", "val_metric", "test_metric", "num_steps"):
        assert two["told"][name] == pytest.approx(one["told"][name], rel=TOLERANCE), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_workers_end_with_the_same_model(results, optimizer):
    zero, one = (result["equal", optimizer]["model"] for result in results)
    assert is_equal(zero, one)


@pytest.mark.parametrize("optimizer", RESUMED)
def test_two_workers_go_on_bit_equal(results, optimizer):
    whole, resumed = results[0]["whole", optimizer], results[0]["resumed", optimizer]
    assert is_equal(resumed["model"], whole["model"])
    assert is_equal(resumed["optimizer"], whole["optimizer"])
    assert_same(resumed["told"], whole["told"])
    assert is_equal(results[1]["resumed", optimizer]["model"], whole["model"])
