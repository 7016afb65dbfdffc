"""AdaFisher in a plain Ray Train job, as anyone would write one without our suite."""

from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from optimizers import AdaFisher
from suite.execution.session import ray_session

NUM_STEPS, BATCH_SIZE, UPDATE_INTERVAL = 20, 8, 5
TOLERANCE = 1e-9  # float64 round-off over 20 steps
WRAPPERS = ("prepare_model", "DistributedDataParallel")


def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).double()
    inputs = torch.randn(NUM_STEPS, BATCH_SIZE, 5, dtype=torch.float64)
    return net, inputs, torch.randint(3, (NUM_STEPS, BATCH_SIZE))


def train(net, wrap, inputs, targets):
    """Return the steps in which ``all_reduce`` was called; the collectives of DDP itself are not of Python."""
    optimizer = AdaFisher(net, lr=1e-3, damping=1e-2, update_interval=UPDATE_INTERVAL)  # on the bare module
    model, called_in = wrap(net), []
    for step, (x, y) in enumerate(zip(inputs, targets, strict=True)):
        with patch.object(dist, "all_reduce", wraps=dist.all_reduce) as all_reduce:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        called_in += [step] * all_reduce.call_count
    return called_in


def work(config):
    import ray.train.torch

    rank = ray.train.get_context().get_world_rank()
    half = slice(rank * BATCH_SIZE // 2, (rank + 1) * BATCH_SIZE // 2)
    wrappers = dict(zip(WRAPPERS, (ray.train.torch.prepare_model, DistributedDataParallel), strict=True))
    results = {"num_workers": dist.get_world_size(), "backend": dist.get_backend()}
    for name, wrap in wrappers.items():
        net, inputs, targets = problem()
        called_in = train(net, wrap, inputs[:, half], targets[:, half])
        results[name] = {"params": net.state_dict(), "called_in": called_in}
    torch.save(results, f"{config['folder']}/{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("workers"))
    with ray_session() as scratch:
        from ray.train import RunConfig, ScalingConfig  # after suite.execution, which sets what Ray reads at its import
        from ray.train.torch import TorchConfig, TorchTrainer

        TorchTrainer(
            work,
            train_loop_config={"folder": folder},
            torch_config=TorchConfig(backend="gloo", timeout_s=60),
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(
                storage_path=str(scratch / "train"), worker_runtime_env={"env_vars": {"GLOO_SOCKET_IFNAME": "lo"}}
            ),
        ).fit()
    return [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.ray
@pytest.mark.dist
@pytest.mark.timeout(120)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_workers_of_ray_train_equal_one_process(results, wrapper):
    net, inputs, targets = problem()
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    assert train(net, lambda model: model, inputs, targets) == []
    for worker in results:
        assert (worker["num_workers"], worker["backend"]) == (2, "gloo")
        assert worker[wrapper]["called_in"] == [0, 5, 10, 15]  # once a refresh
        for name, value in net.state_dict().items():
            assert (value - initial[name]).norm() > 1e-3 * value.norm(), name  # it has moved
            torch.testing.assert_close(worker[wrapper]["params"][name], value, rtol=TOLERANCE, atol=0, msg=name)
