"""What AdaFisher holds and says, counted on the network of the benchmark: ResNet-18 in CIFAR form."""

import gc

import pytest
import torch.distributed as dist
from torch import Tensor, nn

from optimizers import REGISTRY
from tests.benchmarks.training import Trainer, held_bytes, resnet18

MAX_STATE = 1.02  # bytes held over bytes of the parameters; Adam holds 2
MAX_COLLECTIVE = 0.01  # of the gradient's bytes


@pytest.mark.parametrize(("name", "low", "high"), [("adafisher", 1.0, MAX_STATE), ("adam", 2.0, 2.001)])
def test_held_bytes(name, low, high):
    held, of_parameters = held_bytes(resnet18, REGISTRY[name])
    assert low <= held / of_parameters <= high


def test_no_temporary_of_a_weights_size_outlives_a_step():
    """Parameter, average, and nothing third, of the largest weight's 2,359,296 entries."""
    trainer = Trainer(resnet18, REGISTRY["adafisher"], batch_size=2)
    trainer.step()
    trainer.model.zero_grad(set_to_none=True)
    gc.collect()
    largest = max(p.numel() for p in trainer.model.parameters())
    weights = [p for p in trainer.model.parameters() if p.numel() == largest]
    alive = [each for each in gc.get_objects() if type(each) in {Tensor, nn.Parameter} and each.numel() == largest]
    assert len({each.data_ptr() for each in alive}) == 2 * len(weights)


def test_the_collective_is_small_and_on_refresh_steps_alone(monkeypatch, tmp_path):
    """One worker that talks to itself: the group is asked for as if there were more."""
    sent = []
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda buffer, group: sent.append(buffer.numel() * buffer.element_size()))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        trainer = Trainer(resnet18, REGISTRY["adafisher"], batch_size=2, update_interval=2)
        for _ in range(3):
            trainer.step()
    finally:
        dist.destroy_process_group()
    of_gradient = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    assert len(sent) == 2
    assert 0 < sent[0] <= MAX_COLLECTIVE * of_gradient
