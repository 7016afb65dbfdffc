"""What a sweep costs beside its training: its wall time over (its training time / trials at a time)."""

import os
import tempfile
import time
from pathlib import Path

from suite.config import Arm, Budget
from suite.execution.conduct import conduct
from suite.results import Store, load
from suite.study import Study, Tuning

NUM_TRIALS, TRIAL_S = 24, 5.0
TARGET = 1.25


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print the ratio, and where the time goes that is not training."""
    del num_pairs, device, names
    at_once = len(os.sched_getaffinity(0))
    study = Study(
        name="bench",
        question="What does a sweep cost beside its training?",
        workload="digits",
        arms=(Arm(name="sgd", optimizer="sgd"),),
        batch_size=64,
        tune=Tuning(num_trials=NUM_TRIALS, budget=Budget(kind="wall_clock", amount=TRIAL_S)),
    )
    print(f"A sweep of {NUM_TRIALS} trials of {TRIAL_S:g} s, {at_once} at a time: wall time by part")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "results"), study.name)
        started = time.time()
        conduct(study, store, lambda _: None)
        wall = time.time() - started
        runs = load(store.uri).runs
    cost, trials = runs[runs["purpose"] == "calibrate"], runs[runs["purpose"] == "tune"]
    training = trials["train_time_s"].sum() / at_once
    evaluating = trials["eval_time_s"].sum() / at_once
    first, last = trials["started_at"].min().timestamp(), trials["finished_at"].max().timestamp()
    calibrated = cost["finished_at"].max().timestamp()
    parts = {
        "training": training,
        "evaluation": evaluating,
        "Ray starts, the machine becomes quiet, calibration": calibrated - started,
        "trials' processes start": first - calibrated,
        "between evaluations and trials": last - first - training - evaluating,
        "Ray ends, results are folded": started + wall - last,
    }
    print("| part | seconds | share of training |")
    print("|---|---|---|")
    for name, seconds in parts.items():
        print(f"| {name} | {seconds:.1f} | {seconds / training:.3f} |")
    ratio = wall / training
    verdict = "met" if ratio <= TARGET else "MISSED"
    print(f"| **wall time over training time at {at_once} at a time** | {wall:.1f} | **{ratio:.3f}** |")
    print(f"target ≤ {TARGET}: {verdict}")
