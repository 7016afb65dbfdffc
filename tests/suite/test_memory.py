import platform
import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

from suite.training import memory
from tests.suite import tiny

CPU = torch.device("cpu")
NUM_PARAMETERS = 8 * 16 + 16 + 16 * 3 + 3
NUM_TENSORS = 4
FLOAT_BYTES = 4


def stepped(optimizer, model):
    model(torch.randn(5, 8)).sum().backward()
    optimizer.step()
    return optimizer


def test_parameters_are_counted():
    assert memory.parameter_bytes(tiny.build_mlp()) == (NUM_PARAMETERS, NUM_PARAMETERS * FLOAT_BYTES)


def test_frozen_and_tied_parameters():
    model = tiny.build_mlp().double()
    model[0].requires_grad_(requires_grad=False)
    twice = nn.Sequential(model, model)
    assert memory.parameter_bytes(twice) == (16 * 3 + 3, (16 * 3 + 3) * 2 * FLOAT_BYTES)


OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), 0),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), NUM_PARAMETERS * FLOAT_BYTES),
    # Adam's step counter is a float32 a parameter tensor.
    "adam": (torch.optim.Adam, 2 * NUM_PARAMETERS * FLOAT_BYTES + NUM_TENSORS * FLOAT_BYTES),
    "amsgrad": (
        lambda p: torch.optim.Adam(p, amsgrad=True),
        3 * NUM_PARAMETERS * FLOAT_BYTES + NUM_TENSORS * FLOAT_BYTES,
    ),
}


@pytest.mark.parametrize(("build", "expected"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_state_of_an_optimizer(build, expected):
    model = tiny.build_mlp()
    optimizer = build(model.parameters())
    assert memory.optimizer_state_bytes(optimizer) == 0
    assert memory.optimizer_state_bytes(stepped(optimizer, model)) == expected


class Helper:
    def __init__(self, tensor):
        self.tensor, self.itself = tensor, self


def test_what_an_optimizer_holds_counts_once_wherever_it_is_and_a_view_as_a_whole():
    model = tiny.build_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    buffer = torch.zeros(10)
    optimizer.held = {"a": buffer[:3], "nested": [buffer, {"b": (buffer.view(2, 5), torch.zeros(1))}], "n": 7}
    optimizer.helper = Helper(torch.zeros(4))
    optimizer.model = model
    assert memory.optimizer_state_bytes(optimizer) == (10 + 1 + 4) * FLOAT_BYTES


def test_peaks_on_the_cpu():
    memory.reset_peaks(CPU)
    peaks = memory.peaks(CPU)
    size = torch.ones(1 << 20).untyped_storage().nbytes()
    assert peaks.pop("peak_rss_bytes") > size  # bytes, not KiB: torch alone takes far more
    assert peaks == {"peak_cuda_allocated_bytes": None, "peak_cuda_reserved_bytes": None}


FAULTS = """
import resource, sys, torch
from suite.training import memory

if sys.argv[1] == "kept":
    memory.keep_freed_memory()
def step():
    sum([torch.ones(1 << 20) for _ in range(5)])  # 4 MiB each
for _ in range(20):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept_for_the_next_step():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    pages_of_a_tensor = (4 << 20) // resource.getpagesize()
    assert faults("kept") < pages_of_a_tensor < faults("left alone")
