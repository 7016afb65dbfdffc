"""What the suite's loop costs over a plain one: the throughput that is left, with one thread and with two."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from optimizers import REGISTRY
from suite import workloads
from suite.config import Arm, Budget, Run
from suite.training.assembly import Task
from suite.training.clock import TrainClock
from suite.training.limits import StepLimit
from suite.training.loop import train
from suite.training.workers import Workers
from suite.workloads import WorkloadSpec
from tests.benchmarks.pairs import WARM_UP, Figure

WORKLOADS = {"fashion_mnist_resnet8": 0.98, "pydoc_gpt": 0.98, "digits": None}  # name: throughput to keep
BLOCK_STEPS = {"digits": 100}  # steps of a turn, where they are quick
LR = 0.01


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print the table; the optimizer is SGD, the quickest, beside which a loop costs most."""
    del names
    print(f"Throughput of the suite's loop over a plain one's, same workload, SGD; {num_pairs} pairs a figure")
    print(
        "| workload | threads | plain, ms a step | throughput kept, median (95 % interval) | by a second plain loop |"
    )
    print("|---|---|---|---|---|")
    for name, target in WORKLOADS.items():
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            turns = Turns(workloads.find(name), BLOCK_STEPS.get(name, 10), num_pairs, torch.device(device))
            train(turns.task, limit=turns, clock=TrainClock(turns.device), workers=Workers())
            kept = Figure.of([plain / suite for plain, suite in zip(turns.plain_s, turns.suite_s, strict=True)])
            step_ms = Figure.of([1e3 * seconds / turns.block_steps for seconds in turns.plain_s])
            same = Figure.of([plain / other for plain, other in zip(turns.plain_s, turns.other_s, strict=True)])
            judged = "" if target is None else f"; target ≥ {target}: {verdict(kept, target)}"
            print(f"| {name} | {num_threads} | {step_ms.median:.2f} | {kept}{judged} | {same} |", flush=True)
    torch.set_num_threads(1)


def verdict(figure: Figure, least: float) -> str:
    """Return whether a target is met, or whether noise could explain either."""
    if figure.low >= least:
        return "met"
    return "MISSED" if figure.high < least else "not resolved"


class Turns(StepLimit):
    """Times blocks of the suite's steps, from its own question whether there is one more, and plain ones in between.

    The two of a pair follow each other at once, each first in every other pair. Everything that the suite's loop does
    is counted; the epoch is made longer than the benchmark, as the plain loop has no evaluations. A second plain loop
    says what the method is worth.
    """

    def __init__(self, workload: WorkloadSpec, block_steps: int, num_pairs: int, device: torch.device) -> None:
        super().__init__(block_steps * (WARM_UP + num_pairs))
        self.block_steps, self.device = block_steps, device
        self.task = _task(workload, device, self.num_steps + 1)
        self.plain_s: list[float] = []
        self.other_s: list[float] = []
        self.suite_s: list[float] = []
        self._loops = [(plain_steps(self.task), self.plain_s), (plain_steps(self.task), self.other_s)]
        self._block = -1
        self._started = 0.0

    def frac_used(self, step: int) -> float | None:
        if step % self.block_steps == 0:
            if self._block >= 0:
                self.suite_s.append(self._now() - self._started)
                if self._block % 2 == 0:
                    self._time_plain()
            self._block += 1
            if step < self.num_steps and self._block % 2:
                self._time_plain()
            self._started = self._now()
        if step == self.num_steps:
            for times in (self.plain_s, self.other_s, self.suite_s):
                del times[:WARM_UP]
        return super().frac_used(step)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _time_plain(self) -> None:
        for loop, times in self._loops if len(self.plain_s) % 4 < 2 else self._loops[::-1]:
            start = self._now()
            for _ in range(self.block_steps):
                next(loop)
            times.append(self._now() - start)


def plain_steps(task: Task) -> Iterator[None]:
    """Train as one would by hand, a step at a time."""
    workload, batch_size = task.workload, task.run.batch_size
    torch.manual_seed(0)
    model = workload.build_model().to(task.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    split = task.data.train.to(task.device)
    while True:
        for picked in torch.randperm(len(split)).split(batch_size):
            if len(picked) == batch_size:
                inputs, targets = split.take(picked, torch.rand(batch_size, split.num_draws))
                optimizer.zero_grad()
                loss = workload.loss(model(inputs), targets)
                loss.backward()
                optimizer.step()
                yield


def _task(workload: WorkloadSpec, device: torch.device, min_steps: int) -> Task:
    """Return a task whose epoch has at least so many steps, of the workload's samples again and again."""
    data = workload.load()
    whole = data.train
    while len(whole) < min_steps * workload.batch_size:
        whole = whole.join(whole)
    spec = REGISTRY["sgd"]
    run = Run(
        study="benchmark",
        workload=workload.name,
        arm=Arm(name="sgd", optimizer="sgd"),
        purpose="single",
        seed=0,
        budget=Budget(kind="epochs", amount=1),
        batch_size=workload.batch_size,
    )
    config = spec.configure(lr=LR)
    return Task(run=run, workload=workload, spec=spec, config=config, data=replace(data, train=whole), device=device)
