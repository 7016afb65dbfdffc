"""What a study measured of the quantities that the paper has published, part by part of the study."""

import math
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import pandas as pd

from reports import stats
from reports.answers import epochs_in_budget
from reports.answers.base import by_arm, settings
from reports.comparable import EFFICIENCY, EPOCHS_RATIO, GAIN, ONE_WORKER, TIME_RATIO, kind_of, published_as
from reports.frames import Frames, Part, base_arm, metric_of, parts, race_runs
from reports.published import FIXED_EPOCHS, LR, PERPLEXITY, TOP1, WALL_CLOCK
from reports.scaling import growth
from reports.sweep import sweep
from reports.trust import is_trusted

METRICS = {"accuracy": (TOP1, 100.0), "perplexity": (PERPLEXITY, 1.0)}
ADAMS, ADAFISHERS = ("adam", "adamw"), ("adafisher", "adafisherw")  # as published
CHOSEN = {
    "winner": "chosen on validation",
    "fixed": "fixed beforehand",
    "default": "the defaults",
    "transferred": "chosen on validation of another workload",
}
_EPOCHS = re.compile(r"([\d.]+) epochs(?: of ([^,]+))?")

Rows = Iterator[dict[str, Any]]


def measured(frames: Frames) -> list[dict[str, Any]]:
    """Return what a study measured that is published too, in its unit or relative as the published one is.

    Args:
        frames: Of a whole study.

    Returns:
        A row a quantity, part and arm, without placebos, controls and other entries of an arm than its own: the part's
        settings (``workload``, ``case``, ``kind``, ``comparison``, ``cutout``, ``pretrained``, ``budget_epochs``,
        ``batch_size``,
        ``num_workers``), ``arm``, ``relative_to``, the ``estimate`` over the seeds, the numbers of runs and of lost
        ones, how it was found, and whether times were trusted. Gains and times are paired by seed. Cases that vary the
        hyperparameters, the batch size or the schedule of a workload's first case have no test metric here.
    """
    trusted = "yes" if is_trusted(frames) else "no"
    firsts: dict[tuple[str, str], pd.DataFrame] = {}
    rows: list[dict[str, Any]] = []
    for part in parts(frames):
        runs = race_runs(part.frames)
        runs = runs[(runs["arm"].map(str).map(base_arm) == runs["arm"]).astype(bool)]
        shared = _shared(part, runs)
        found = [*_times(runs, trusted), *_learning_rates(part)]
        if len(runs) and _is_alike(runs, firsts.setdefault((part.workload, shared["pretrained"]), runs)):
            found = [*_results(part, runs), *_gains(part, runs), *found]
        rows += [shared | row for row in found]
    return [*rows, *_epochs(frames, rows, trusted), *_efficiencies(frames, trusted)]


def _is_alike(runs: pd.DataFrame, first: pd.DataFrame) -> bool:
    """Return whether runs share hyperparameters, batch size and schedule with the first case's, arm by arm."""
    varied = ["hyperparameters", "batch_size", "schedule"]
    both = [each.drop_duplicates("arm").set_index("arm")[varied].astype("object") for each in (runs, first)]
    arms = both[0].index.intersection(both[1].index)
    own, others = (each.loc[arms].where(each.loc[arms].notna(), "") for each in both)
    return bool((own == others).all(axis=None))


def _shared(part: Part, runs: pd.DataFrame) -> dict[str, Any]:
    """Return what all rows of a part share."""
    known = settings(runs) if len(runs) else {}
    epochs = _EPOCHS.search(str(known.get("budget")))
    is_papers = epochs is not None and (not epochs[2] or base_arm(epochs[2]) in _clocks(part.workload))
    return {
        "workload": part.workload,
        "case": part.case,
        "kind": kind_of(part.workload),
        "comparison": (WALL_CLOCK if runs["budget_seconds"].notna().any() else FIXED_EPOCHS) if len(runs) else "",
        "cutout": "yes" if part.workload.endswith("_cutout") else "no",
        "pretrained": "yes" if part.workload.endswith("_pretrained") or runs["initial_weights"].notna().any() else "no",
        "budget_epochs": float(epochs[1]) if epochs and is_papers else math.nan,
        "batch_size": known.get("batch_size"),
        "num_workers": known.get("num_workers"),
        "relative_to": "",
        "trusted": "",
    }


def _clocks(workload: str) -> tuple[str, ...]:
    """Return the arms whose epochs measure out the time on a workload in the paper."""
    return ADAMS if workload.startswith("imagenet_") else ADAFISHERS


def _counts(runs: pd.DataFrame, *arms: str) -> dict[str, Any]:
    """Return how many runs of the first arm there are, and how many were lost of all."""
    own = [runs[runs["arm"] == arm] for arm in arms]
    return {"arm": arms[0], "num_runs": len(own[0]), "num_lost": sum(int(each["is_lost"].sum()) for each in own)}


def _results(part: Part, runs: pd.DataFrame) -> Rows:
    """Yield what each arm reached in the test metric, where that is one that the paper has."""
    quantity, scale = METRICS.get(metric_of(part.frames).name, ("", 1.0))
    for arm, values in by_arm(runs, "test_metric").items() if quantity else ():
        estimate = stats.estimate(scale * values)
        yield {"quantity": quantity, "estimate": estimate, "statistic": _statistic(runs, arm), **_counts(runs, arm)}


def _gains(part: Part, runs: pd.DataFrame) -> Rows:
    """Yield what each arm gains over Adam, in points of accuracy."""
    quantity, scale = METRICS.get(metric_of(part.frames).name, ("", 1.0))
    values = by_arm(runs, "test_metric") if quantity == TOP1 else {}
    for arm, base in product(values, [arm for arm in ADAMS if arm in values]):
        if arm not in ADAMS:
            yield {
                "quantity": GAIN,
                "relative_to": base,
                "estimate": stats.estimate(scale * (values[arm] - values[base])),
                "statistic": f"paired by seed, {_statistic(runs, arm)}",
                **_counts(runs, arm, base),
            }


def _times(runs: pd.DataFrame, trusted: str) -> Rows:
    """Yield the training time of an epoch of each arm over SGD's."""
    timed = runs.assign(epoch_s=runs["train_time_s"] / runs["num_epochs"].where(runs["num_epochs"] > 0))
    values = by_arm(timed, "epoch_s")
    is_timed = "sgd" in values and timed["epoch_s"].notna().any()
    for arm in values if is_timed else ():
        if arm != "sgd":
            yield {
                "quantity": TIME_RATIO,
                "relative_to": "sgd",
                "estimate": stats.estimate(values[arm] / values["sgd"]),
                "statistic": "measured training time of an epoch, paired by seed",
                "trusted": trusted,
                **_counts(runs, arm, "sgd"),
            }


def _learning_rates(part: Part) -> Rows:
    """Yield the learning rate of the best trial of each arm that was searched for one."""
    for search in sweep(part.frames):
        rate = search.hyperparameters.get("lr")
        rate = rate if isinstance(rate, int | float) else math.nan
        if base_arm(search.arm) == search.arm:
            yield {
                "quantity": LR,
                "comparison": "",
                "arm": search.arm,
                "estimate": stats.estimate([rate]),
                "num_runs": search.num_trials,
                "num_lost": search.num_lost,
                "statistic": "of the best trial, on validation",
            }


def _epochs(frames: Frames, rows: list[dict[str, Any]], trusted: str) -> Rows:
    """Yield the epochs of each arm that fit into a time over those of AdaFisher, in either numerics."""
    shared = {(row["workload"], row["case"]): row for row in rows if row["quantity"] != LR}
    table, raced = epochs_in_budget.table(frames), dict(iter(race_runs(frames).groupby(["workload", "case"])))
    for names, own in table[table["budget_s"].notna()].groupby(["workload", "case"]):
        place = (str(names[0]), str(names[1]))
        epochs = dict(zip(own["arm"], own["num_epochs"], strict=True))
        arms = [arm for arm in epochs if base_arm(arm) == arm and place in shared]
        for arm, base in product(arms, [arm for arm in arms if published_as(arm) in ADAFISHERS]):
            if published_as(arm) not in ADAFISHERS:
                yield shared[place] | {
                    "quantity": EPOCHS_RATIO,
                    "arm": arm,
                    "relative_to": base,
                    "estimate": stats.estimate([epochs[arm] / epochs[base]]),
                    "statistic": "epochs that the budget paid for",
                    "trusted": trusted,
                    **_counts(raced[place], arm),
                }


def _efficiencies(frames: Frames, trusted: str) -> Rows:
    """Yield the throughput of a worker over that of one alone, each with the same batch."""
    for row in growth(frames):
        workload, arm, _ = row.key
        if row.kind == "weak" and row.num_workers > row.base_workers == 1:
            yield {
                "quantity": EFFICIENCY,
                "workload": workload,
                "case": "",
                "kind": kind_of(workload),
                "comparison": "",
                "cutout": "yes" if workload.endswith("_cutout") else "no",
                "pretrained": "no",
                "budget_epochs": math.nan,
                "num_workers": row.num_workers,
                "arm": arm,
                "relative_to": ONE_WORKER,
                "estimate": row.efficiency,
                "num_runs": row.efficiency.n,
                "num_lost": None,
                "statistic": "measured steps, paired by seed",
                "trusted": trusted,
            }


def _statistic(runs: pd.DataFrame, arm: str) -> str:
    """Return which test metric was measured, and how its hyperparameters were found."""
    own = runs[runs["arm"] == arm]
    chosen = CHOSEN.get(str(own["source"].iloc[0]), "")
    if (own["splits"] == "paper").any():
        chosen = chosen.replace("chosen on validation", "chosen on the test split")
    return "test at the end" + (f", hyperparameters {chosen}" if chosen else "")
