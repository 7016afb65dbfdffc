"""What the contract tests of workloads share: the pairs that they range over, and tasks on made-up batches."""

import io
from collections.abc import Callable
from functools import partial

import pytest
import torch

import optimizers
from suite.training.assembly import Assembly, Task
from suite.training.workers import Workers
from suite.workloads import REGISTRY, SMALL, Data, TensorSplit, WorkloadSpec
from tests.suite import tiny

BATCH_SIZE = 4  # samples: two for each of two workers

# The first is AdaFisher's, judged by a test of its own; the second torch says whenever `create_graph` is on; the third
# is GPT-1's, whose embeddings are in a file that no test has.
quiet = [
    pytest.mark.filterwarnings("ignore:these parameters take the identity factor"),
    pytest.mark.filterwarnings(r"ignore:Using backward\(\) with create_graph=True"),
    pytest.mark.filterwarnings("ignore:random token embeddings"),
]

# Why a pair of workload and optimizer cannot work. A pair named here must fail, or its test does.
CANNOT: dict[tuple[str, str], str] = {}


def network_of(spec: WorkloadSpec) -> tuple[object, ...]:
    """Return what workloads share whose networks differ in no more than the head or where the weights come from."""
    return _core(spec.build_model)


def load_of(spec: WorkloadSpec) -> tuple[object, ...]:
    """Return what workloads share that read the same files."""
    return _core(spec.load)


def _core(function: Callable[..., object]) -> tuple[object, ...]:
    return (function.func, *function.args) if isinstance(function, partial) else (function,)


# The first workload of each network; those that differ from it in data, head or first weights are its twins.
FIRST = {network_of(spec): name for name, spec in reversed(REGISTRY.items())}


def is_twin(name: str) -> bool:
    return FIRST[network_of(REGISTRY[name])] != name


def pair(workload: str, optimizer: str) -> object:
    """Return a parameter set; slow beyond what every change should be tested with."""
    marks = []
    is_quick = workload in SMALL or (optimizer in {"sgd", "adafisher"} and not is_twin(workload))
    if not is_quick:
        marks.append(pytest.mark.slow)
    if (workload, optimizer) in CANNOT:
        marks.append(pytest.mark.xfail(reason=CANNOT[workload, optimizer], strict=True))
    return pytest.param(workload, optimizer, id=f"{workload}-{optimizer}", marks=marks)


every_pair = pytest.mark.parametrize(
    ("workload", "optimizer"), [pair(workload, optimizer) for workload in REGISTRY for optimizer in optimizers.REGISTRY]
)
every_workload = pytest.mark.parametrize(
    "workload", [pytest.param(name, marks=[pytest.mark.slow] if is_twin(name) else []) for name in REGISTRY]
)


def task_of(workload: WorkloadSpec, optimizer: str, *, num_workers: int = 1) -> Task:
    """Return a task whose data are one made-up batch."""
    spec = optimizers.find(optimizer)
    batch = TensorSplit(*workload.make_example(BATCH_SIZE))
    plan = tiny.plan(workload=workload.name, arm=tiny.arm(optimizer), batch_size=BATCH_SIZE, num_workers=num_workers)
    config, data = spec.configure(), Data(batch, batch, batch)
    return Task(run=plan, workload=workload, spec=spec, config=config, data=data, device=torch.device("cpu"))


def steps(assembly: Assembly, task: Task, numbers: range) -> torch.Tensor:
    """Take steps on the batch, and return their losses."""
    batch = task.data.train.take(torch.arange(BATCH_SIZE))
    return torch.stack([assembly.step(number, batch, 1.0) for number in numbers])


def through_a_file(task: Task, assembly: Assembly) -> Assembly:
    """Return a fresh assembly that goes on from a checkpoint of this one."""
    file = io.BytesIO()
    torch.save(assembly.state_dict(), file)
    file.seek(0)
    fresh = Assembly(task, Workers())
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh
