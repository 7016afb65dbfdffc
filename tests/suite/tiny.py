"""Workloads, optimizers, plans and clocks that are small enough for unit tests."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import optimizers
from optimizers import Float, OptimizerSpec
from suite.config import Arm, Budget, Run
from suite.training.assembly import Task
from suite.workloads import Data, TensorSplit, WorkloadSpec

NUM_TRAIN, NUM_VAL, NUM_TEST = 200, 40, 41  # no two alike, so that a mix-up shows
BATCH_SIZE = 16  # 12 steps an epoch: out of step with the loop's look at the loss every 10


class FakeClock:
    """A time source that moves by ``tick`` at each look, and by what ``advance`` adds."""

    def __init__(self, tick=0.0):
        self.time, self.tick = 100.0, tick

    def __call__(self):
        self.time += self.tick
        return self.time

    def advance(self, seconds):
        self.time += seconds


def load():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(NUM_TRAIN + NUM_VAL + NUM_TEST, 8, generator=generator)
    targets = (inputs @ torch.randn(8, 3, generator=generator)).argmax(dim=1)
    sizes = [NUM_TRAIN, NUM_VAL, NUM_TEST]
    return Data(*map(TensorSplit, inputs.split(sizes), targets.split(sizes)))


def build_mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def build_normed():
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 3))


def build_noisy():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def accuracy(outputs, targets):
    return (outputs.argmax(dim=1) == targets).float()


def workload(name, build_model, **changes):
    fields = {
        "load": load,
        "build_model": build_model,
        "loss": F.cross_entropy,
        "metric": accuracy,
        "metric_name": "accuracy",
        "target": 2.0,  # out of reach
        "batch_size": BATCH_SIZE,
        "reference": "random points",
    }
    return WorkloadSpec(name=name, **{**fields, **changes})


def outgrow(outputs, targets):
    """A loss that falls without bound, so that plain descent on it runs away, but stays finite."""
    return -outputs.square().mean() + 0 * targets.sum()


MLP = workload("mlp", build_mlp)
NORMED = workload("normed", build_normed)
NOISY = workload("noisy", build_noisy)
EASY = workload("easy", build_mlp, target=0.9)  # SGD meets it at its second epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultyConfig:
    lr: float = 0.1


class Faulty(torch.optim.SGD):
    """Raises in its second step: the first one is of the warm-up."""

    error: BaseException = ValueError("this optimizer is broken")

    def step(self, closure=None):
        raise self.error


class Greedy(Faulty):
    error = MemoryError("no more of it")


def _faulty(model, config):
    return Faulty(model.parameters(), lr=config.lr)


def _greedy(model, config):
    return Greedy(model.parameters(), lr=config.lr)


_SPACE = {"lr": Float(low=1e-3, high=1.0, log=True)}
FAULTY = OptimizerSpec(name="faulty", config=FaultyConfig, build=_faulty, search_space=_SPACE)
GREEDY = OptimizerSpec(name="greedy", config=FaultyConfig, build=_greedy, search_space=_SPACE)


def arm(optimizer="sgd", **fixed):
    return Arm(name=optimizer.rpartition(":")[2].lower(), optimizer=optimizer, fixed=fixed)


def plan(**changes):
    fields = {
        "study": "tiny",
        "workload": "tests.suite.tiny:MLP",
        "arm": arm(),
        "purpose": "single",
        "seed": 3,
        "budget": Budget(kind="steps", amount=30),
        "batch_size": BATCH_SIZE,
    }
    return Run(**{**fields, **changes})


def task(optimizer="sgd", workload=MLP, hyperparameters=None, **changes):
    run = plan(arm=arm(optimizer), **changes)
    spec = optimizers.find(optimizer)
    return Task(
        run=run,
        workload=workload,
        spec=spec,
        config=spec.configure(**(hyperparameters or {})),
        data=workload.load().with_splits(run.splits),
        device=torch.device("cpu"),
    )
