import pytest
import torch

from suite.errors import UsageError
from suite.training.batches import Batches
from suite.training.workers import Workers
from suite.workloads import Split

NUM_SAMPLES = 50
SPLIT = Split(torch.arange(NUM_SAMPLES)[:, None].float(), torch.arange(NUM_SAMPLES))


class Worker(Workers):
    def __init__(self, rank, num_workers):
        super().__init__()
        self.rank, self.num_workers = rank, num_workers


def make(batch_size=10, rank=0, num_workers=1, seed=3):
    workers = Worker(rank, num_workers)
    return Batches(SPLIT, seed=seed, batch_size=batch_size, workers=workers, device=torch.device("cpu"))


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


def test_a_batch_beyond_the_data_is_refused():
    with pytest.raises(UsageError, match="batch_size must be <= the 50 training samples, but got 51"):
        make(51)
