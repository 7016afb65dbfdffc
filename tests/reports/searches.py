"""Rows as a search of today writes them: spaces, samplers, pruners, and a race with several sources."""

import json
from typing import Any

import numpy as np

from tests.reports.synthetic import TableSet, common, curve_of, on_grid, run, spread_of, tune_of

SPACE = {
    "lr": {"low": 1e-4, "high": 0.1, "log": True},
    "momentum": {"low": 0.0, "high": 0.99, "log": False},
}
LRS = {"lr": {"choices": [0.001, 0.01, 0.1, 1.0]}, "layers": {"choices": ["paper", "dense"]}}
NAMES = "sgd adam adamw adafactor lion rmsprop adafisher adafisherw adafisher_released kfac shampoo".split()


def searched(arm: str, points: list[tuple[dict[str, Any], float | None]], space: Any = None, **fields: Any):
    """Return tune rows as ``tune_of`` does, with what was searched."""
    told = {"search_space": json.dumps(space or SPACE), "sampler": "sobol", "train_time_s": 4.0, "budget": "4s"}
    return [row | told | fields for row in tune_of(arm, points)]


def pruned(row: dict[str, Any], score: float, pruner: str = "asha") -> dict[str, Any]:
    """Return a trial that was stopped early at a score."""
    return row | {"status": "pruned", "val_metric": score, "pruner": pruner, "train_time_s": 1.0}


def entries(scores: dict[str, list[float | None]], **fields: Any) -> list[dict[str, Any]]:
    """Return race rows of winners, and of the defaults and transferred winners that a name says."""
    rows = []
    for arm, values in scores.items():
        word = arm.partition("(")[2].rstrip(")")
        cost = (
            {"num_tuning_trials": 0, "tuning_time_s": 0.0}
            if word == "default"
            else {"num_tuning_trials": 12, "tuning_time_s": 30.0}
        )
        for seed, score in enumerate(values):
            status = "completed" if score is not None else "diverged"
            row = run(f"{arm}{seed}", arm=arm, seed=seed, source=word or "winner", status=status, **cost)
            loss = None if score is None else 1 - score
            rows.append(row | {"test_metric": score, "test_loss": loss} | fields)
    return rows


def many(*, num_arms: int = 11, sources: tuple[str, ...] = ("", " (default)"), num_seeds: int = 3, grid: bool = False):
    """Return a study of many arms, each with several entries, pruned trials and costs by option."""
    rng = np.random.default_rng(3)
    runs: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for place, arm in enumerate(NAMES[:num_arms]):
        kind = "adafisher" if arm.startswith("adafisher") else "adam"
        top = 0.955 + 0.002 * place
        runs += _calibrations(arm, kind)
        for trial in range(12):
            runs.append(_trial(arm, kind, trial, top, rng, grid=grid))
        for source in sources:
            for seed in range(100, 100 + num_seeds):
                score = on_grid(top - 0.02 * (source != "") + rng.normal(0, 0.002))
                (row,) = entries({arm + source: [score]}, **_short(kind, arm + source))
                row |= {"run_id": f"{arm}{source}-{seed}", "seed": seed, "val_metric": score}
                runs.append(row)
                epochs += curve_of(row, score, rng)
                metrics += spread_of(kind, row["run_id"], row["num_steps"])
    return TableSet(runs=runs, epochs=epochs, metrics=metrics)


def _short(kind: str, name: str) -> dict[str, Any]:
    """Return what the runs of an arm share, with a budget of a second."""
    times = {"budget_seconds": 1.0, "budget_time_s": 1.0, "train_time_s": 1.02, "total_time_s": 1.3}
    return common(kind, name) | times | {"num_steps": 200, "num_epochs": 10.0, "budget": "1s, calibrated"}


def _calibrations(arm: str, kind: str) -> list[dict[str, Any]]:
    """Return the calibrations of an arm: two, where an option changes the cost."""
    names = [f"{arm} update_interval={n}" for n in (1, 10)] if kind == "adafisher" else [arm]
    return [run(f"{name}-c", **common(kind, name), purpose="calibrate") for name in names]


def _trial(arm: str, kind: str, trial: int, top: float, rng: np.random.Generator, *, grid: bool) -> dict[str, Any]:
    """Return a trial; every fourth is stopped early."""
    space = LRS if grid else SPACE
    lr = float(LRS["lr"]["choices"][trial % 4] if grid else 10 ** rng.uniform(-4, -1))
    other = {"layers": ["paper", "dense"][trial // 4 % 2]} if grid else {"momentum": float(rng.uniform(0, 0.99))}
    score = top - 0.05 * np.log10(lr / 0.05) ** 2 + rng.normal(0, 0.004)
    (row,) = searched(arm, [({"lr": lr, **other}, score)], space)
    row = {**_short(kind, arm), **row, "run_id": f"{arm}-t{trial}", "trial": trial, "pruner": "asha"}
    return pruned(row, score - 0.2) if trial % 4 == 3 else row
