"""Two workers on this machine, by gloo over loopback."""

import os
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT_S = 90


def spawn(worker, folder):
    """Run ``worker(rank, folder)`` in two processes with a process group; fail if they hang."""
    context = mp.spawn(_start, args=(worker, str(folder)), nprocs=2, join=False)
    deadline = time.monotonic() + TIMEOUT_S
    while not context.join(timeout=1, grace_period=5):  # True once all have ended
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the workers hung")


def _start(rank, worker, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    worker(rank, folder)
    dist.destroy_process_group()
