"""The table of step times on a GPU, tried out on the CPU with small batches: the figures mean nothing here."""

import csv
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import optimizers
from suite.workloads import examples
from tests.benchmarks import gpu

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALL = {"mnist_cnn": partial(examples.images, shape=(1, 28, 28), num_classes=10)}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def measured(tiers, *, batches=SMALL, seconds=60.0):
    return list(gpu.rows(batches, tiers, CPU, deadline=time.monotonic() + seconds, batch_size=4))


def test_a_row_an_arm_with_its_seconds():
    rows = measured([("sgd", "kfac")])
    assert [(row.workload, row.optimizer, row.batch_size, row.reason) for row in rows] == [
        ("mnist_cnn", "sgd", 4, ""),
        ("mnist_cnn", "kfac", 4, ""),
    ]
    assert all(0 < row.step_s < 1 for row in rows)
    assert [(row.peak_bytes, row.device) for row in rows] == [(None, "cpu")] * 2


def test_steps_of_each_level_are_taken_apart_and_combined_by_how_often_they_come(monkeypatch):
    taken = []

    class Known(gpu.Steps):
        """Steps of level n that take 10^n seconds, but for one that takes longer."""

        def take(self, level, num_steps):
            taken.append((level, len(super().take(level, num_steps))))
            assert self._refreshing.refreshed == level
            return [10.0**level] * (num_steps - 1) + [1e6]

    monkeypatch.setattr(gpu, "Steps", Known)
    task = gpu.task_of(gpu.build_once(gpu.find("mnist_cnn")), SMALL["mnist_cnn"](4), "kfac", CPU)
    intervals = task.spec.build(task.workload.build_model(), task.config).refresh_intervals
    assert intervals == (10, 100)
    step_s = gpu.measure(task, time.monotonic() + 60)
    assert step_s == pytest.approx(0.9 * 1 + (0.1 - 0.01) * 10 + 0.01 * 100)
    assert taken == [(2, 1), (1, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 10), (1, 3), (2, 3)]


def test_seconds_are_those_of_the_steps():
    steps = gpu.Steps(gpu.task_of(gpu.build_once(gpu.find("mnist_cnn")), SMALL["mnist_cnn"](64), "sgd", CPU), 1e18)
    steps.take(0, 2)
    start = time.perf_counter()
    each = steps.take(0, 5)
    whole = time.perf_counter() - start
    assert len(each) == 5
    assert 0.5 * whole < sum(each) <= whole
    assert statistics.median(each) > 0


def test_what_fails_is_a_row_that_says_why_and_the_others_go_on(monkeypatch):
    def absent(example):
        raise ModuleNotFoundError("No module named 'vit_pytorch'")

    rows = measured([("sgd",)], batches={"cifar10_cct_2_3x2": absent, **SMALL})
    assert [(row.step_s is None, row.reason) for row in rows] == [
        (True, "ModuleNotFoundError: No module named 'vit_pytorch'"),
        (False, ""),
    ]


def test_memory_that_runs_out_is_said_in_three_words():
    assert gpu.why(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")) == "out of memory"


def test_no_step_is_begun_when_the_time_is_up():
    [row] = measured([("sgd",)], seconds=-1)
    assert (row.step_s, row.reason) == (None, "TimeoutError: the time of the benchmark is up")


def test_the_first_tier_goes_over_all_networks_before_the_second():
    batches = {name: gpu.BATCHES[name] for name in ("cifar10_resnet18", "cifar10_swin_t")}
    rows = measured([("sgd", "adam"), ("eva",)], batches=batches, seconds=-1)
    assert [row.optimizer for row in rows] == ["sgd", "adam", "sgd", "adam", "eva", "eva"]


def test_every_optimizer_has_its_place():
    arms = [arm for tier in gpu.TIERS for arm in tier]
    assert sorted(arms) == sorted(optimizers.REGISTRY)


@pytest.mark.parametrize("name", gpu.BATCHES)
def test_batches_have_the_shapes_of_the_data(name):
    inputs, targets = gpu.BATCHES[name](2)
    shapes = {"cifar10": (3, 32, 32), "tiny": (3, 64, 64), "imagenet": (3, 224, 224)}
    shapes |= {"mnist": (1, 28, 28), "iris": (2,)}
    shape = shapes.get(name.partition("_")[0])
    assert inputs.shape == (2, *(shape or (512,)))
    assert targets.shape == ((2,) if shape else (2, 512))


ABSENT = ["ray", "optuna", "pandas", "pyarrow", "plotly", "vit_pytorch"]


def test_it_starts_without_what_it_does_not_need(tmp_path):
    out = tmp_path / "steps.csv"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); sys.argv[1:] = ['gpu', '--device', 'cpu', "
        f"'--seconds', '0', '--arms', 'sgd', '--out', {str(out)!r}]; from tests.benchmarks.__main__ import main; main()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
    rows = list(csv.DictReader(out.open()))
    assert [row["workload"] for row in rows] == list(gpu.BATCHES)
    assert list(rows[0]) == ["workload", "optimizer", "batch_size", "step_s", "peak_bytes", "device", "reason"]
    assert {row["step_s"] for row in rows} == {""}
