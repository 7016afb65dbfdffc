import time
from dataclasses import dataclass

import pytest
import torch

from suite.errors import UsageError
from suite.training.batches import Batches
from suite.training.workers import Workers
from suite.workloads import TensorSplit
from suite.workloads.base import Transform

NUM_SAMPLES = 50
SPLIT = TensorSplit(torch.arange(NUM_SAMPLES)[:, None].float(), torch.arange(NUM_SAMPLES))


class Worker(Workers):
    def __init__(self, rank, num_workers):
        super().__init__()
        self.rank, self.num_workers = rank, num_workers


def make(batch_size=10, rank=0, num_workers=1, seed=3, split=SPLIT):
    workers = Worker(rank, num_workers)
    return Batches(split, seed=seed, batch_size=batch_size, workers=workers, device=torch.device("cpu"))


def epoch(batches, number=0):
    steps = range(number * batches.steps_per_epoch, (number + 1) * batches.steps_per_epoch)
    return torch.cat([batches.at(step)[1] for step in steps]).tolist()


def test_an_epoch_visits_every_sample_once():
    assert sorted(epoch(make())) == list(range(NUM_SAMPLES))


def test_inputs_go_with_their_targets():
    inputs, targets = make().at(3)
    assert inputs[:, 0].tolist() == targets.tolist()


def test_epochs_and_seeds_differ_in_order():
    orders = [epoch(make(), 0), epoch(make(), 1), epoch(make(seed=4), 0), list(range(NUM_SAMPLES))]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(("batch_size", "steps", "samples"), [(10, 5, 50), (16, 3, 48), (50, 1, 50), (26, 1, 26)])
def test_the_incomplete_batch_is_dropped(batch_size, steps, samples):
    batches = make(batch_size)
    visited = epoch(batches, 1)
    assert batches.steps_per_epoch == steps
    assert len(visited) == len(set(visited)) == samples


@pytest.mark.parametrize("num_workers", [2, 5])
def test_the_workers_parts_make_up_the_batch_of_one(num_workers):
    whole = make()
    parts = [make(rank=rank, num_workers=num_workers) for rank in range(num_workers)]
    for step in range(2 * whole.steps_per_epoch):
        together = [torch.cat(tensors) for tensors in zip(*(part.at(step) for part in parts), strict=True)]
        assert all(torch.equal(one, other) for one, other in zip(together, whole.at(step), strict=True))


def test_a_batch_does_not_hang_on_what_was_asked_before():
    batches = make()
    steps = [12, 0, 7, 7, 3, 12, 99]
    asked = [batches.at(step)[1].tolist() for step in steps]
    assert asked == [make().at(step)[1].tolist() for step in steps]


@dataclass(frozen=True)
class Shift(Transform):
    """Shows which draws went to which sample."""

    num_draws = 2

    def __call__(self, stored, draws):
        return stored if draws is None else stored + draws


class Decoded(TensorSplit):
    is_decoded = True

    def to(self, device):
        return self


AUGMENTED = TensorSplit(torch.zeros(NUM_SAMPLES, 2), torch.arange(NUM_SAMPLES), Shift())


def draws_by_sample(batches, number):
    """Return by sample what it was augmented with in an epoch."""
    steps = range(number * batches.steps_per_epoch, (number + 1) * batches.steps_per_epoch)
    seen = [batches.at(step) for step in steps]
    return {int(i): tuple(row.tolist()) for inputs, targets in seen for row, i in zip(inputs, targets, strict=True)}


def test_augmentation_is_a_function_of_seed_epoch_and_sample_alone():
    seen = draws_by_sample(make(split=AUGMENTED), 1)
    assert len(set(seen.values())) == NUM_SAMPLES
    assert draws_by_sample(make(5, split=AUGMENTED), 1) == seen  # other batches
    parts = [draws_by_sample(make(rank=rank, num_workers=2, split=AUGMENTED), 1) for rank in range(2)]
    assert parts[0] | parts[1] == seen  # more workers
    assert draws_by_sample(make(split=AUGMENTED), 0) != seen
    assert draws_by_sample(make(seed=4, split=AUGMENTED), 1) != seen


def test_batches_made_ahead_are_those_made_in_time():
    ahead, in_time = make(split=Decoded(AUGMENTED.inputs, AUGMENTED.targets, Shift())), make(split=AUGMENTED)
    for step in [0, 1, 2, 3, 4, 5, 6, 17, 3, 4, 5]:  # over an epoch's end, and jumps as after a checkpoint
        for one, other in zip(ahead.at(step), in_time.at(step), strict=True):
            assert torch.equal(one, other)


def test_the_next_batch_is_begun_before_it_is_asked_for():
    made = []

    class Noted(Decoded):
        def take(self, picked, draws=None):
            made.append(picked)
            return super().take(picked, draws)

    batches = make(split=Noted(AUGMENTED.inputs, AUGMENTED.targets))
    batches.at(0)
    deadline = time.monotonic() + 10
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) == 2


def test_what_cannot_be_decoded_is_said_when_it_is_asked_for():
    class Broken(Decoded):
        def take(self, picked, draws=None):
            raise UsageError("image 7 is broken")

    with pytest.raises(UsageError, match="image 7 is broken"):
        make(split=Broken(AUGMENTED.inputs, AUGMENTED.targets)).at(0)


def test_a_batch_beyond_the_data_is_refused():
    with pytest.raises(UsageError, match="batch_size must be <= the 50 training samples, but got 51"):
        make(51)
