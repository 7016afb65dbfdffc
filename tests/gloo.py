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
    launch(_with_group, worker, str(folder))


def launch(worker, *args):
    """Run ``worker(rank, *args)`` in two processes that join groups by themselves; fail if they hang."""
    context = mp.spawn(worker, args=args, nprocs=2, join=False)
    deadline = time.monotonic() + TIMEOUT_S
    while not context.join(timeout=1, grace_period=5):  # True once all have ended
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the workers hung")


def start(rank, rendezvous):
    """Join the group of two that meets at a file."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)


def _with_group(rank, worker, folder):
    start(rank, f"{folder}/rendezvous")
    worker(rank, folder)
    dist.destroy_process_group()
