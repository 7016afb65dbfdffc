import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from optimizers import capture, linalg, shampoo
from suite.training import profiling
from suite.training.calibration import MIN_ROUNDS, PLAIN_STEPS, REFRESH_STEPS, CalibrationError
from suite.training.clock import TrainClock
from suite.training.profiling import profile, weighted_quantile
from suite.training.timeline import COLLECTIVES, PARTS, Timeline, watching
from suite.training.workers import Workers
from suite.workloads import digits
from tests import gloo
from tests.suite import tiny

FORWARD_S, LOSS_S, BACKWARD_S, UPDATE_S = 3.0, 1.0, 5.0, 2.0
REFRESH_S = {0: 0.0, 1: 7.0, 2: 70.0}
PLAIN_STEP_S = FORWARD_S + LOSS_S + BACKWARD_S + UPDATE_S
CPU = torch.device("cpu")


@pytest.fixture
def now(monkeypatch):
    """Time that passes only where a fake says so."""
    now = tiny.FakeClock()
    monkeypatch.setattr(profiling, "TrainClock", lambda device: TrainClock(device, now))
    monkeypatch.setattr(profiling, "Timeline", lambda device: Timeline(device, now))
    return now


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    now: tiny.FakeClock
    intervals: tuple[int, ...] = ()


class Refreshed(torch.optim.SGD):
    """Takes as long as it should, for its refreshes and for the rest."""

    def __init__(self, model, timing):
        super().__init__(model.parameters(), lr=0.1)
        self.now, self.level = timing.now, 0
        if timing.intervals:
            self.refresh_intervals, self.refreshed = timing.intervals, 0
            self.schedule_refresh = self.schedule

    def schedule(self, level):
        self.level = level

    def _refresh(self):
        self.now.advance(REFRESH_S[self.level])

    def step(self, closure=None):
        assert self.param_groups[0]["lr"] == 0.0
        if self.level:
            self._refresh()
        self.now.advance(UPDATE_S)
        return super().step(closure)


class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, now):
        ctx.now = now
        now.advance(FORWARD_S)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.now.advance(BACKWARD_S)
        return grad, None


class SlowNet(nn.Module):
    def __init__(self, now):
        super().__init__()
        self.layer, self.now = nn.Linear(8, 3), now

    def forward(self, x):
        return Slow.apply(self.layer(x), self.now)


def slow_task(now, intervals=()):
    def loss(outputs, targets):
        now.advance(LOSS_S)
        return nn.functional.cross_entropy(outputs, targets)

    task = tiny.task(workload=tiny.workload("slow", lambda: SlowNet(now), loss=loss))
    return replace(task, spec=replace(task.spec, build=Refreshed), config=Timing(now=now, intervals=intervals))


def parts(refresh_s):
    return {
        "data": 0.0,
        "forward": FORWARD_S + LOSS_S,
        "backward": BACKWARD_S,
        "factors": refresh_s,
        "step": UPDATE_S,
        "communication": 0.0,
    }


def test_a_step_without_refreshes(now):
    [found] = profile([slow_task(now)], Workers(), 0.0)
    assert found.parts == found.plain_parts == parts(0)
    assert found.refresh == found.refresh_parts == {}
    assert found.step == found.plain == dict.fromkeys(("p50", "p95", "p99"), PLAIN_STEP_S)
    assert found.watched_step_s == PLAIN_STEP_S
    assert found.num_steps == found.num_watched_steps == MIN_ROUNDS * PLAIN_STEPS


def test_levels_are_combined_by_frequency(now):
    # of 20 steps 15 are plain, 4 refresh at the first level and 1 at the second
    [found] = profile([slow_task(now, (4, 20))], Workers(), 0.0)
    assert found.plain_parts == parts(0)
    assert found.refresh_parts == pytest.approx(parts((4 * 7 + 70) / 5))
    assert found.parts == pytest.approx(parts((4 * 7 + 70) / 20))
    assert found.watched_step_s == pytest.approx(PLAIN_STEP_S + (4 * 7 + 70) / 20)
    assert found.plain == dict.fromkeys(("p50", "p95", "p99"), PLAIN_STEP_S)
    assert found.step == {"p50": PLAIN_STEP_S, "p95": PLAIN_STEP_S + 7, "p99": PLAIN_STEP_S + 70}
    assert found.refresh == {"p50": PLAIN_STEP_S + 7, "p95": PLAIN_STEP_S + 70, "p99": PLAIN_STEP_S + 70}
    assert found.num_steps == found.num_watched_steps == MIN_ROUNDS * (PLAIN_STEPS + 2 * REFRESH_STEPS)


def test_an_arm_that_always_refreshes_has_no_plain_steps(now):
    [found] = profile([slow_task(now, (1,))], Workers(), 0.0)
    assert found.plain == found.plain_parts == {}
    assert found.parts == found.refresh_parts == parts(7)


def test_arms_are_taken_apart_one_by_one(now):
    found = profile([slow_task(now, intervals) for intervals in ((), (1,), (4,))], Workers(), 0.0)
    assert [one.parts["factors"] for one in found] == pytest.approx([0, 7, 7 / 4])


def test_the_names_in_the_table(now):
    [found] = profile([slow_task(now, (4,))], Workers(), 0.0)
    metrics = found.as_metrics()
    kinds = ("", "plain/", "refresh/")
    expected = {f"profile/{kind}{part}_s" for kind in kinds for part in PARTS}
    expected |= {f"profile/{kind}_{q}_s" for kind in ("step", "plain", "refresh") for q in ("p50", "p95", "p99")}
    expected |= {f"profile/{name}" for name in ("watched_step_s", "collectives_per_step", "bytes_per_step")}
    assert set(metrics) == expected
    assert metrics["profile/factors_s"] == pytest.approx(7 / 4)
    assert (metrics["profile/plain/factors_s"], metrics["profile/refresh/factors_s"]) == (0, 7)
    assert metrics["profile/refresh_p99_s"] == PLAIN_STEP_S + 7


def test_more_time_means_more_steps(now):
    few, many = (profile([slow_task(now)], Workers(), seconds)[0].num_steps for seconds in (0.0, 0.5))
    assert few == MIN_ROUNDS * PLAIN_STEPS < many


def test_an_arm_that_breaks_is_named():
    task = tiny.task("tests.suite.tiny:FAULTY")
    with pytest.raises(CalibrationError, match="faulty"):
        profile([task], Workers(), 0.0)


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.5, 1.0), (0.75, 1.0), (0.8, 2.0), (0.95, 2.0), (0.96, 9.0), (1.0, 9.0)],
)
def test_quantiles_of_weighted_values(q, expected):
    weighted = [(9.0, 0.05), (1.0, 0.25), (1.0, 0.5), (2.0, 0.2)]
    assert weighted_quantile(weighted, q) == expected
    assert weighted_quantile([(value, 20 * weight) for value, weight in weighted], q) == expected


@pytest.fixture
def clock():
    return tiny.FakeClock()


@pytest.fixture
def timeline(clock):
    return Timeline(CPU, clock)


def test_what_interrupts_a_part_is_not_counted_in_it(timeline, clock):
    inner = timeline.watched("communication", lambda: clock.advance(4))

    def outer():
        clock.advance(2)
        inner()
        clock.advance(1)

    timeline.begin("backward", is_refresh=True)
    clock.advance(8)
    timeline.watched("factors", outer)()
    clock.advance(16)
    timeline.turn_to("step")
    clock.advance(32)
    assert timeline.end().seconds == {"backward": 24, "factors": 3, "communication": 4, "step": 32}


def test_a_step_may_turn_while_it_is_interrupted(timeline, clock):
    def hook():
        clock.advance(1)
        timeline.turn_to("communication")
        clock.advance(2)

    timeline.begin("backward", is_refresh=False)
    timeline.watched("factors", hook)()
    clock.advance(4)
    assert timeline.end().seconds == {"backward": 0, "factors": 3, "communication": 4}


def test_a_part_of_refreshes_belongs_to_its_caller_where_none_is_due(timeline, clock):
    refresh = timeline.watched("factors", lambda: clock.advance(1), in_refresh_only=True)
    for is_refresh, expected in ((False, {"step": 1}), (True, {"step": 0, "factors": 1})):
        timeline.begin("step", is_refresh=is_refresh)
        refresh()
        assert timeline.end().seconds == expected


def test_an_error_does_not_upset_the_row(timeline, clock):
    def fail():
        clock.advance(1)
        raise ZeroDivisionError

    timeline.begin("step", is_refresh=False)
    with pytest.raises(ZeroDivisionError):
        timeline.watched("factors", fail)()
    clock.advance(2)
    assert timeline.end().seconds == {"step": 2, "factors": 1}


def test_nothing_is_noted_between_steps(timeline, clock):
    timeline.watched("factors", clock.advance)(1)
    timeline.turn_to("forward")
    timeline.begin("data", is_refresh=False)
    record = timeline.end()
    timeline.counted(lambda tensor: None)(torch.zeros(3))
    assert (record.seconds, record.num_collectives, record.num_bytes) == ({"data": 0}, 0, 0)


def all_gather_into_tensor(output_tensor, input_tensor, group=None, async_op=False):
    return "gathered"


def test_collectives_are_counted_with_what_this_worker_hands_over(timeline):
    gather = timeline.counted(all_gather_into_tensor)
    scatter = timeline.counted(lambda output, input_list, op=None: None)
    barrier = timeline.counted(lambda group=None: None)
    timeline.begin("step", is_refresh=False)
    assert gather(torch.zeros(8), input_tensor=torch.zeros(4, dtype=torch.float64)) == "gathered"
    scatter(torch.zeros(2), [torch.zeros(2), torch.zeros(2)])
    barrier()
    record = timeline.end()
    assert (record.num_collectives, record.num_bytes) == (3, 4 * 8 + 2 * 2 * 4)


def test_all_is_as_before_in_the_end(timeline):
    task = tiny.task("shampoo")
    optimizer = task.spec.build(tiny.build_mlp(), task.config)
    owners = [dist, capture.WeakHook, capture.Layer, linalg, shampoo, optimizer]
    before = [dict(vars(owner)) for owner in owners]
    with pytest.raises(ZeroDivisionError), watching(timeline, [optimizer]):
        during = [dict(vars(owner)) for owner in owners]
        raise ZeroDivisionError
    assert [dict(vars(owner)) for owner in owners] == before
    changed = [
        {k for k in new.keys() | old if new.get(k) is not old.get(k)} for new, old in zip(during, before, strict=True)
    ]
    assert changed == [
        set(COLLECTIVES),
        {"__call__"},
        {"commit"},
        {"damped_inverse", "add_outer_products", "inverse_root", "renewed_inverse_root"},
        {"add_outer_products", "renewed_inverse_root"},
        {"_complete_gradients", "_refresh"},
    ]


def digits_task(optimizer):
    return tiny.task(optimizer, digits.SPEC, batch_size=64)


@pytest.fixture(scope="module")
def on_digits():
    arms = ("sgd", "adafisher", "adafisher_released", "kfac", "shampoo", "adahessian")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parameters that take the identity factor
        return dict(zip(arms, profile([digits_task(arm) for arm in arms], Workers(), 0.0), strict=True))


def test_the_parts_add_up_to_the_step(on_digits):
    for arm, found in on_digits.items():
        assert sum(found.parts.values()) == pytest.approx(found.watched_step_s, rel=0.15), arm
        assert found.parts.keys() == set(PARTS)
        for part in ("data", "forward", "backward", "step"):
            assert found.parts[part] > 0, (arm, part)
        assert (found.parts["communication"], found.collectives_per_step, found.bytes_per_step) == (0, 0, 0), arm


def test_only_curvature_has_factors(on_digits):
    assert on_digits["sgd"].parts["factors"] == 0
    for arm, found in on_digits.items():
        assert arm == "sgd" or found.parts["factors"] > 0, arm
    # what a refresh costs lies in the factors, not in another part: K-FAC's inverses, Shampoo's roots
    for arm in ("kfac", "shampoo"):
        plain, refresh = on_digits[arm].plain_parts, on_digits[arm].refresh_parts
        grown = {part: refresh[part] - plain[part] for part in PARTS}
        assert grown["factors"] > 0.7 * sum(grown.values()), (arm, grown)
    # AdaHessian's double backward is not the update's
    assert on_digits["adahessian"].parts["factors"] > on_digits["adahessian"].parts["step"]


def test_a_level_that_is_not_due_costs_nothing(on_digits):
    for arm in ("adafisher_released", "kfac"):
        assert on_digits[arm].plain_parts["factors"] == 0 < on_digits[arm].refresh_parts["factors"], arm


def test_percentiles_are_in_order_and_near_the_watched_step(on_digits):
    for arm, found in on_digits.items():
        assert 0 < found.step["p50"] <= found.step["p95"] <= found.step["p99"], arm
    assert on_digits["sgd"].watched_step_s < 3 * on_digits["sgd"].step["p50"]
    assert on_digits["kfac"].refresh["p50"] > on_digits["kfac"].plain["p50"]


def test_an_arm_is_like_itself():
    one, other = profile([digits_task("sgd"), digits_task("sgd")], Workers(), 0.0)
    assert 0.5 < one.step["p50"] / other.step["p50"] < 2
    assert 0.5 < one.parts["backward"] / other.parts["backward"] < 2


# Two workers. What is handed over, in numbers of 4 bytes: the gradients of all parameters, and with each refresh the
# factors of each layer (H, a bias included, and S; or A and S whole) and a flag a layer.
MLP_PARAMS = (8 * 16 + 16) + (16 * 3 + 3)
MLP_DIAGONALS = (9 + 16 + 1) + (17 + 3 + 1)
MLP_KRONECKER = (9**2 + 16**2 + 1) + (17**2 + 3**2 + 1)
MLP_TENSORS = 4
WIDE = 512, 600  # its second layer fills the first bucket, of 1 MiB; the first layer's gradients come after, in another
WIDE_PARAMS = (8 * 512 + 512) + (512 * 600 + 600) + (600 * 3 + 3)


def build_wide():
    first, second = WIDE
    return nn.Sequential(nn.Linear(8, first), nn.Tanh(), nn.Linear(first, second), nn.Tanh(), nn.Linear(second, 3))


ON_TWO = {
    # arm: collectives and numbers handed over by a step, those by a refresh, steps from one refresh to the next
    "sgd": (1, MLP_PARAMS, 0, 0, 1),
    "wide": (2, WIDE_PARAMS, 0, 0, 1),
    "adafisher": (1, MLP_PARAMS, 1, MLP_DIAGONALS, 1),
    "adafisher_released": (1, MLP_PARAMS, 1, MLP_DIAGONALS, 100),
    "kfac": (1, MLP_PARAMS, 1, MLP_KRONECKER, 10),  # inverses are not exchanged
    "shampoo": (1, MLP_PARAMS, 0, 0, 1),  # statistics of gradients that are averaged already
    "adahessian": (1, MLP_PARAMS + MLP_TENSORS, 1, MLP_PARAMS, 1),  # not by DistributedDataParallel
}


def work(rank, folder):
    workers = Workers.join()
    tasks = [
        tiny.task("sgd", tiny.workload("wide", build_wide), num_workers=2)
        if name == "wide"
        else tiny.task(name, num_workers=2)
        for name in ON_TWO
    ]
    found = dict(zip(ON_TWO, profile(tasks, workers, 0.0), strict=True))
    rows = {name: (one.collectives_per_step, one.bytes_per_step, dict(one.parts)) for name, one in found.items()}
    torch.save(rows, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    gloo.spawn(work, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.dist
@pytest.mark.parametrize("name", ON_TWO)
def test_one_collective_a_bucket_and_one_a_refresh(on_two, name):
    num, size, num_refresh, size_refresh, interval = ON_TWO[name]
    for rank in (0, 1):
        collectives, payload, _ = on_two[rank][name]
        assert collectives == pytest.approx(num + num_refresh / interval, rel=1e-12)
        assert payload == pytest.approx(4 * (size + size_refresh / interval), rel=1e-12)


@pytest.mark.dist
def test_two_workers_wait_for_each_other(on_two):
    assert on_two[0] == on_two[1]  # means over the workers
    for name, (_, _, found) in on_two[0].items():
        assert found["communication"] > 0, name
        assert found["backward"] > 0, name
