import copy
import math
from dataclasses import replace

import pytest
import torch

import optimizers
from suite.config import Schedule
from suite.training import loop
from suite.training.clock import TrainClock
from suite.training.limits import LiveLimit, StepLimit
from suite.training.loop import CHECK_INTERVAL, CHECKPOINT_INTERVAL_S, train
from suite.training.outcome import entries_of
from suite.training.workers import Workers
from tests.suite import tiny

# Eva's, which has no rule for normalization layers
pytestmark = pytest.mark.filterwarnings("ignore:these parameters take the identity factor")

CPU = torch.device("cpu")
STEPS_PER_EPOCH = tiny.NUM_TRAIN // tiny.BATCH_SIZE
STEP_LOOKS = 3  # at the clock in a step: around the wait for data, and at the end
TICK_S = CHECKPOINT_INTERVAL_S / CHECK_INTERVAL / STEP_LOOKS  # a checkpoint is due at each look at the loss
STEP_S = STEP_LOOKS * TICK_S


class StoppedError(Exception):
    """Stands for the end of the process."""


class Memory:
    """Keeps checkpoints, and stops the run once it has written so many."""

    def __init__(self, stop_after=None):
        self.content, self.num_written, self.stop_after = None, 0, stop_after

    def read(self):
        return self.content

    def write(self, content):
        self.content = content
        self.num_written += 1
        if self.num_written == self.stop_after:
            raise StoppedError


class StoppingLimit(StepLimit):
    """Stops the process before a step."""

    def __init__(self, num_steps, stop_at):
        super().__init__(num_steps)
        self.stop_at = stop_at

    def frac_used(self, step):
        if step == self.stop_at:
            raise StoppedError
        return super().frac_used(step)


class Probe:
    """Keeps what the model and the optimizer were at the last evaluation."""

    def __init__(self):
        self.state = None
        self.num_calls = 0

    def __call__(self, model, optimizer, *, step, frac, frac_before):
        self.num_calls += 1
        self.state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        values = {"num_calls": float(self.num_calls), "weight": next(model.parameters()).sum().item()}
        return values, {"moment": torch.tensor([step, frac, frac_before])}


def run(task, limit=30, now=None, **options):
    clock = TrainClock(CPU, now or tiny.FakeClock(TICK_S))
    limit = limit(clock) if callable(limit) else StepLimit(limit) if isinstance(limit, int) else limit
    return train(task, limit=limit, clock=clock, workers=Workers(), **options)


def live(seconds):
    return lambda clock: LiveLimit(seconds, clock, Workers())


def is_equal(one, two):
    """Compare nested states bit by bit; NaN equals itself."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two) and one.dtype == two.dtype
    if isinstance(one, dict):
        return list(one) == list(two) and all(is_equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(is_equal, one, two))
    return one == two or (one != one and two != two)  # noqa: PLR0124


# What stands beside the training: set-up and overheads of a process, which a second start has of its own.
OVERHEADS = {"eval_time_s", "checkpoint_time_s", "warmup_time_s", "total_time_s", "num_resumes", "peak_rss_bytes"}


def told(outcome):
    """Return what a run must tell again however often it was stopped; training times too, as the fake clock is even."""
    columns = {name: value for name, value in outcome.columns.items() if name not in OVERHEADS}
    metrics = [row for row in outcome.metrics if row["name"] != "num_calls"]
    return {"status": outcome.status, **columns, "epochs": outcome.epochs, "steps": outcome.steps, "metrics": metrics}


def assert_same(one, two):
    for name in one:
        assert is_equal(one[name], two[name]), name
    assert list(one) == list(two)


# Workload, samples a step, steps. Of 20 samples a step, each tenth step ends an epoch, and each tenth may checkpoint.
NETS = {"batch norm, dropout": ("NOISY", 16), "layer norm": ("NORMED", 16), "epoch of 10": ("MLP", 20)}
NUM_STEPS = 64


@pytest.mark.parametrize("optimizer", optimizers.REGISTRY)
@pytest.mark.parametrize(("net", "batch_size"), NETS.values(), ids=NETS)
def test_a_stopped_run_goes_on_bit_equal(optimizer, net, batch_size):
    task = tiny.task(optimizer, getattr(tiny, net), batch_size=batch_size, schedule=Schedule(warmup_frac=0.1))
    whole, parted = Probe(), Probe()
    expected = run(task, NUM_STEPS, checkpoints=Memory(), probes=[whole])
    checkpoints = Memory(stop_after=2)  # after 20 steps
    with pytest.raises(StoppedError):
        run(task, NUM_STEPS, checkpoints=checkpoints)
    checkpoints.stop_after = 4  # after 40 steps; the third is written by the second start
    with pytest.raises(StoppedError):
        run(task, NUM_STEPS, checkpoints=checkpoints)
    outcome = run(task, NUM_STEPS, checkpoints=checkpoints, probes=[parted])
    assert outcome.columns["num_resumes"] == 2
    assert outcome.columns["num_steps"] == NUM_STEPS
    assert is_equal(parted.state, whole.state)
    expected.metrics = outcome.metrics = []  # the probe is of the last start
    assert_same(told(outcome), told(expected))


@pytest.mark.parametrize("optimizer", optimizers.REGISTRY)
def test_a_run_that_stopped_early_starts_again(optimizer):
    task = tiny.task(optimizer, tiny.NOISY)
    whole, again = Probe(), Probe()
    expected = run(task, NUM_STEPS, now=tiny.FakeClock(), probes=[whole])
    checkpoints = Memory()
    with pytest.raises(StoppedError):
        run(task, StoppingLimit(NUM_STEPS, stop_at=37), now=tiny.FakeClock(), checkpoints=checkpoints)
    assert checkpoints.content is None
    outcome = run(task, NUM_STEPS, now=tiny.FakeClock(), checkpoints=checkpoints, probes=[again])
    assert outcome.columns["num_resumes"] == 0
    assert is_equal(again.state, whole.state)
    assert_same(told(outcome), told(expected))


def test_a_run_stopped_between_checkpoints_repeats_the_steps_since():
    task, probe, whole = tiny.task("adam", tiny.NOISY), Probe(), Probe()
    expected = run(task, NUM_STEPS, probes=[whole])
    checkpoints = Memory()
    with pytest.raises(StoppedError):
        run(task, StoppingLimit(NUM_STEPS, stop_at=37), checkpoints=checkpoints, probes=[Probe()])
    outcome = run(task, NUM_STEPS, checkpoints=checkpoints, probes=[probe])
    assert is_equal(probe.state, whole.state)
    assert_same(told(outcome), told(expected))


def test_a_live_budget_goes_on_with_the_clock():
    task, seconds = tiny.task("sgd"), 50 * STEP_S
    expected = run(task, live(seconds), checkpoints=Memory())
    checkpoints = Memory(stop_after=3)
    with pytest.raises(StoppedError):
        run(task, live(seconds), checkpoints=checkpoints)
    outcome = run(task, live(seconds), checkpoints=checkpoints)
    assert outcome.columns["num_steps"] == expected.columns["num_steps"] == 50
    assert outcome.columns["train_time_s"] == pytest.approx(seconds)
    assert [row["lr"] for row in outcome.steps] == [row["lr"] for row in expected.steps]


def test_checkpoints_keep_their_distance():
    checkpoints = Memory()
    run(tiny.task(), 100, now=tiny.FakeClock(TICK_S / 2), checkpoints=checkpoints)
    assert checkpoints.num_written == 5  # every second look at the loss
    checkpoints = Memory()
    run(tiny.task(), 100, now=tiny.FakeClock(TICK_S / 11), checkpoints=checkpoints)
    assert checkpoints.num_written == 0


def test_what_a_completed_run_tells():
    outcome = run(tiny.task(schedule=Schedule(name="step")), 30)
    assert outcome.status == "completed"
    assert [row["step"] for row in outcome.epochs] == [12, 24, 30]
    assert [row["epoch"] for row in outcome.epochs] == [1, 2, 30 / STEPS_PER_EPOCH]
    assert [row["step"] for row in outcome.steps] == [1, 11, 21]
    assert [row["lr"] for row in outcome.steps] == pytest.approx([0.1, 0.1, 0.01])
    assert [row["step_time_ms"] for row in outcome.steps] == pytest.approx([1e3 * STEP_S] * 3)
    assert all(math.isfinite(row["loss"]) for row in outcome.steps)
    assert outcome.columns["num_steps"] == 30
    assert outcome.columns["num_epochs"] == 30 / STEPS_PER_EPOCH
    assert outcome.columns["num_parameters"] == 195
    for name in ("val_loss", "val_metric", "test_loss", "test_metric", "train_loss"):
        assert outcome.columns[name] == outcome.epochs[-1][name]
    assert outcome.columns["best_val_metric"] == max(row["val_metric"] for row in outcome.epochs)
    assert outcome.columns["best_test_metric"] == max(row["test_metric"] for row in outcome.epochs)
    best = max(outcome.epochs, key=lambda row: row["val_metric"])  # the first of equals
    assert outcome.columns["test_metric_at_best_val"] == best["test_metric"]
    assert outcome.columns["time_to_target_s"] is None


def test_it_learns():
    epochs = run(tiny.task("adam", hyperparameters={"lr": 0.03}), 60).epochs
    assert epochs[-1]["val_loss"] < 0.5 * epochs[0]["val_loss"]
    assert epochs[-1]["val_metric"] > 0.8


def test_a_metric_to_minimize():
    workload = replace(
        tiny.MLP, metric=lambda o, t: (o.argmax(dim=1) != t).float(), metric_goal="minimize", target=-1.0
    )
    outcome = run(tiny.task(workload=workload), 60)
    assert outcome.columns["best_val_metric"] == min(row["val_metric"] for row in outcome.epochs)
    assert outcome.columns["time_to_target_s"] is None


def test_probes_are_called_at_evaluations():
    outcome = run(tiny.task(), 30, probes=[Probe()])
    assert [(row["step"], row["value"]) for row in outcome.metrics if row["name"] == "num_calls"] == [
        (12, 1),
        (24, 2),
        (30, 3),
    ]


def test_probes_know_how_much_of_the_budget_is_used():
    outcome = run(tiny.task(), 30, probes=[Probe()])
    moments = [row["value"] for row in outcome.arrays]
    assert [row["step"] for row in outcome.arrays] == [12] * 3 + [24] * 3 + [30] * 3
    assert [(row["row"], row["column"]) for row in outcome.arrays] == [(0, 0), (1, 0), (2, 0)] * 3
    assert moments == pytest.approx([12, 0.4, 0, 24, 0.8, 0.4, 30, 1, 0.8])


@pytest.mark.parametrize("seconds", [12 * TICK_S, 15 * TICK_S], ids=["at an evaluation", "after one"])
def test_the_last_probe_of_a_live_budget_sees_all_of_it_used(seconds):
    outcome = run(tiny.task(), live(seconds), probes=[Probe()])
    fracs = [row["value"] for row in outcome.arrays if row["row"] == 1]
    assert fracs[-1] == 1
    assert all(frac < 1 for frac in fracs[:-1])
    found = [(row["step"], row["name"]) for row in outcome.metrics]
    assert len(set(found)) == len(found), "what is found anew replaces what was found"


def test_an_array_of_two_dimensions_is_told_by_rows():
    array = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = [(row["row"], row["column"], row["value"]) for row in entries_of("grid", array, step=7)]
    assert rows == [(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)]


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (1, [1]),
        (12, [12]),
        (13, [12, 13]),
        (60, [12, 24, 36, 48, 60]),
        (61, [13, 26, 39, 52, 61]),
        (94, [19, 38, 57, 76, 94]),
    ],
)
def test_evaluations_are_few_and_the_last_step_is_among_them(monkeypatch, num_steps, expected):
    monkeypatch.setattr(loop, "MAX_EVALUATIONS", 5)
    assert [row["step"] for row in run(tiny.task(), num_steps).epochs] == expected


def test_calibrated_time_is_counted_in_steps():
    outcome = run(tiny.task(workload=tiny.EASY), 30, step_s=0.5)
    assert outcome.columns["budget_time_s"] == 15
    assert [row["budget_time_s"] for row in outcome.epochs] == [6, 12, 15]
    assert outcome.columns["train_time_s"] == pytest.approx(30 * STEP_S)


def test_measured_time_is_the_budgets_otherwise():
    outcome = run(tiny.task(), 30)
    assert outcome.columns["budget_time_s"] == outcome.columns["train_time_s"] == pytest.approx(30 * STEP_S)
    assert [row["train_time_s"] for row in outcome.epochs] == pytest.approx([12 * STEP_S, 24 * STEP_S, 30 * STEP_S])


def test_evaluations_checkpoints_and_the_warm_up_are_not_charged(monkeypatch):
    now = tiny.FakeClock(TICK_S)
    for name, seconds in (("evaluate", 1000), ("_warm_up", 100_000)):
        original = getattr(loop, name)
        monkeypatch.setattr(
            loop, name, lambda *a, original=original, seconds=seconds: (now.advance(seconds), original(*a))[1]
        )

    class Slow(Memory):
        def write(self, content):
            now.advance(10_000)
            super().write(content)

    columns = run(tiny.task(), 30, now=now, checkpoints=Slow()).columns
    assert columns["train_time_s"] == pytest.approx(30 * STEP_S)
    assert columns["data_time_s"] == pytest.approx(30 * TICK_S)
    assert columns["eval_time_s"] == pytest.approx(3 * 2 * 1000 + 6 * TICK_S)  # two splits, three times; six looks
    assert columns["checkpoint_time_s"] == pytest.approx(3 * (10_000 + 2 * TICK_S))  # each asks for the total time
    assert columns["warmup_time_s"] == pytest.approx(100_000 + TICK_S)
    parts = ["train_time_s", "eval_time_s", "checkpoint_time_s", "warmup_time_s"]
    assert columns["total_time_s"] == pytest.approx(sum(columns[name] for name in parts), rel=0.01)  # few looks between


@pytest.mark.parametrize("is_calibrated", [False, True], ids=["measured", "calibrated"])
def test_the_time_to_the_target_is_that_of_the_first_evaluation_that_meets_it(is_calibrated):
    outcome = run(tiny.task(workload=tiny.EASY), 60, step_s=0.5 if is_calibrated else None)
    met = [row for row in outcome.epochs if row["val_metric"] >= tiny.EASY.target]
    assert 0 < len(met) < len(outcome.epochs)
    assert outcome.status == "completed"
    assert outcome.columns["time_to_target_s"] == met[0]["budget_time_s"]
    assert outcome.columns["num_steps"] == 60


def test_a_run_may_stop_at_its_target():
    outcome = run(tiny.task(workload=tiny.EASY, stop_at_target=True), 60)
    assert outcome.status == "target_reached"
    assert outcome.epochs[-1]["val_metric"] >= tiny.EASY.target
    assert all(row["val_metric"] < tiny.EASY.target for row in outcome.epochs[:-1])
    assert outcome.columns["num_steps"] == outcome.epochs[-1]["step"] < 60
    assert outcome.columns["val_metric"] == outcome.epochs[-1]["val_metric"]
    assert outcome.columns["time_to_target_s"] == outcome.epochs[-1]["budget_time_s"]


def test_a_watch_may_prune_a_run_at_an_evaluation_but_not_at_its_end():
    seen = []

    def watch(frac, metric):
        seen.append((round(frac, 2), metric))
        return len(seen) == 2

    outcome = run(tiny.task(), limit=4 * STEPS_PER_EPOCH, watch=watch)
    assert outcome.status == "pruned"
    assert outcome.columns["num_steps"] == 2 * STEPS_PER_EPOCH
    assert seen == [(0.25, outcome.epochs[0]["val_metric"]), (0.5, outcome.columns["val_metric"])]

    seen.clear()
    assert run(tiny.task(), limit=2 * STEPS_PER_EPOCH, watch=watch).status == "completed"
    assert len(seen) == 1


def test_the_splits_of_the_paper():
    task = tiny.task(workload=tiny.EASY, splits="paper", stop_at_target=True)
    outcome = run(task, 30)
    assert len(task.data.train) == tiny.NUM_TRAIN + tiny.NUM_VAL
    assert [row["step"] for row in outcome.epochs] == [15, 30]  # of 16 samples, from both splits
    assert outcome.status == "completed"
    assert {row["val_metric"] for row in outcome.epochs} == {None}
    for name in ("val_loss", "val_metric", "best_val_metric", "test_metric_at_best_val", "time_to_target_s"):
        assert outcome.columns[name] is None
    assert outcome.columns["best_test_metric"] == max(row["test_metric"] for row in outcome.epochs)


def scaled_loss(factors):
    """Return a loss that is multiplied by what a table says of each of its calls in training."""
    calls = iter(factors)

    def loss(outputs, targets):
        value = torch.nn.functional.cross_entropy(outputs, targets)
        return value * next(calls, 1.0) if torch.is_grad_enabled() else value

    return loss


WARM_UP = [1.0] * loop.WARMUP_STEPS
DIVERGING = {
    # factors of the loss by step, steps taken until it is noticed, evaluations before
    "nan at once": ([math.nan], 10, 0),
    "inf later": ([1.0] * 26 + [math.inf], 30, 2),
    "runaway later": ([1.0] * 16 + [1e9], 20, 1),
    "runaway in the last epoch": ([1.0] * 31 + [1e9], 36, 2),  # after the last look, before the last evaluation
}


@pytest.mark.parametrize(("factors", "num_steps", "num_rows"), DIVERGING.values(), ids=DIVERGING)
def test_a_loss_that_diverges(factors, num_steps, num_rows):
    workload = replace(tiny.MLP, loss=scaled_loss(WARM_UP + factors))
    outcome = run(tiny.task(workload=workload, hyperparameters={"lr": 0.0}), 36)  # the model stays as it is
    assert outcome.status == "diverged"
    assert outcome.columns["num_steps"] == num_steps
    assert len(outcome.epochs) == num_rows
    for name in ("val_loss", "val_metric", "test_loss", "test_metric"):
        assert outcome.columns[name] is None
    assert outcome.columns["best_val_metric"] == (outcome.epochs[0]["val_metric"] if num_rows else None)
    assert [row["step"] for row in outcome.steps] == list(range(1, num_steps + 1, CHECK_INTERVAL))


@pytest.mark.parametrize("lr", [1e3, 1e30], ids=["runaway", "non-finite"])
def test_a_rate_that_is_too_large(lr):
    workload = replace(tiny.MLP, loss=tiny.outgrow)
    outcome = run(tiny.task(workload=workload, hyperparameters={"lr": lr}), 60)
    assert outcome.status == "diverged"
    assert outcome.columns["num_steps"] < 60
    assert outcome.columns["test_metric"] is None


def test_an_evaluation_that_is_not_finite():
    def loss(outputs, targets):
        value = torch.nn.functional.cross_entropy(outputs, targets)
        return value if torch.is_grad_enabled() else value * math.nan

    outcome = run(tiny.task(workload=replace(tiny.MLP, loss=loss)), 30)
    assert (outcome.status, outcome.epochs, outcome.columns["num_steps"]) == ("diverged", [], 12)


def test_all_arms_see_the_same_start_and_the_same_data(monkeypatch):
    """The seeds are paired: what an optimizer draws for itself changes nothing."""
    seen = {}
    for optimizer in ("sgd", "adafisher"):
        batches = []

        def loss(outputs, targets, batches=batches):
            batches.append(targets.tolist())
            return torch.nn.functional.cross_entropy(outputs, targets)

        probe = Probe()
        workload = replace(tiny.NOISY, loss=loss)
        run(tiny.task(optimizer, workload, hyperparameters={"lr": 0.0}), 24, probes=[probe])
        weights = {name: value for name, value in probe.state[0].items() if "running" not in name}
        seen[optimizer] = (batches, weights)
    assert is_equal(seen["sgd"], seen["adafisher"])
