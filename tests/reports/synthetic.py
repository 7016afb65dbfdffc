"""Frames without a single training: rows by hand for exact tests, and a whole study that looks like the default one."""

import json
from typing import Any

import numpy as np
import pandas as pd

from reports.frames import Frames, prepare
from suite.results.schema import TABLES

ARMS = {  # final accuracy of a good run, best lr, seconds per step, optimizer state over parameters
    "sgd": (0.966, 0.3, 0.0040, 1.0),
    "adam": (0.974, 0.01, 0.0044, 2.0),
    "adafisher": (0.976, 0.003, 0.0061, 1.07),
    "adafisher_released": (0.971, 0.003, 0.0049, 1.07),
}
TARGET = 0.95
PARAMETER_BYTES = 78_000
STEPS_PER_EPOCH = 20
TEST_SAMPLES = 270
DEFAULTS = {
    "attempt": 1,
    "schema_version": 1,
    "study": "digits",
    "workload": "digits",
    "arm": "sgd",
    "purpose": "race",
    "seed": 0,
    "num_workers": 2,
    "num_threads": 1,
    "batch_size": 64,
    "status": "completed",
    "splits": "standard",
    "metric_name": "accuracy",
    "metric_goal": "maximize",
    "target": TARGET,
    "hyperparameters": "{}",
}


class TableSet:
    """What ``suite.results.load`` returns, from lists of rows."""

    def __init__(self, **rows):
        for name in TABLES:
            found = list(rows.pop(name, ()))
            setattr(self, name, pd.DataFrame(found, columns=_columns(name, found)))
        assert not rows, f"no such table: {[*rows]}"


def _columns(table, rows):
    return None if rows else [column.name for column in TABLES[table]]


def run(run_id: str, **fields: Any) -> dict[str, Any]:
    """Return a row of runs; what is not given is the default study's."""
    return {"run_id": run_id, **DEFAULTS, **fields}


def race_of(scores: dict[str, list[float | None]], **fields: Any) -> list[dict[str, Any]]:
    """Return race rows: a list of test metrics an arm, one a seed; None diverged."""
    return [
        run(
            f"{arm}{seed}",
            arm=arm,
            seed=seed,
            status="completed" if score is not None else "diverged",
            test_metric=score,
            test_loss=None if score is None else 1 - score,
            **fields,
        )
        for arm, values in scores.items()
        for seed, score in enumerate(values)
    ]


def case_of(case: str, scores: dict[str, list[float | None]], **fields: Any) -> list[dict[str, Any]]:
    """Return race rows of one case; what a name has in brackets is its source."""
    rows = race_of(scores, case=case, **fields)
    for row in rows:
        row["run_id"] = f"{case}/{row['run_id']}"
        row.setdefault("source", row["arm"].partition("(")[2].rstrip(")") or "fixed")
    return rows


def metrics_of(run_id: str, values: dict[str, float], step: int = 1) -> list[dict[str, Any]]:
    """Return rows of metrics of one run at one step."""
    return [{"run_id": run_id, "attempt": 1, "step": step, "name": n, "value": v} for n, v in values.items()]


def array_of(run_id: str, name: str, values: Any, step: int = 1) -> list[dict[str, Any]]:
    """Return rows of arrays: one array of one or two dimensions of one run at one step."""
    entries = np.atleast_2d(np.asarray(values, dtype="float64").T).T
    return [
        {"run_id": run_id, "attempt": 1, "step": step, "name": name, "row": i, "column": j, "value": value}
        for (i, j), value in np.ndenumerate(entries)
    ]


def tune_of(arm: str, points: list[tuple[dict[str, float], float | None]]) -> list[dict[str, Any]]:
    """Return tune rows: hyperparameters and validation metric; None diverged."""
    return [
        run(
            f"{arm}-t{trial}",
            arm=arm,
            purpose="tune",
            trial=trial,
            status="completed" if score is not None else "diverged",
            lr=hyperparameters.get("lr"),
            hyperparameters=json.dumps(hyperparameters),
            val_metric=score,
            budget_time_s=4.0,
            train_time_s=4.0,
        )
        for trial, (hyperparameters, score) in enumerate(points)
    ]


def frames_of(**tables: Any) -> Frames:
    """Return prepared frames of lists of rows."""
    return prepare(TableSet(**tables))


def study(*, num_seeds: int = 3, num_trials: int = 12, rename: dict[str, str] | None = None) -> TableSet:
    """Return a study as ``make sweep`` writes it: four arms, calibrated, tuned and raced, one trial diverged."""
    rng = np.random.default_rng(7)
    runs: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for arm in ARMS:
        name = (rename or {}).get(arm, arm)
        runs += [_calibration(arm, name, workers) for workers in (1, 2)]
        for trial in range(num_trials):
            row, curve = _trial(arm, name, trial, rng)
            runs.append(row)
            epochs += curve
        for seed in range(num_seeds):
            row, curve = _race(arm, name, 100 + seed, rng)
            runs.append(row)
            epochs += curve
            metrics += spread_of(arm, row["run_id"], row["num_steps"])
    return TableSet(runs=runs, epochs=epochs, metrics=metrics)


def common(arm: str, name: str) -> dict[str, Any]:
    step_s, state = ARMS[arm][2:]
    is_curved = arm.startswith("adafisher")
    start = pd.Timestamp("2026-03-01T10:00:00Z")
    return {
        "arm": name,
        "optimizer": arm,
        "budget": "wall_clock 12 s, calibrated",
        "schedule": "cosine",
        "sync_batchnorm": False,
        "step_s": step_s,
        "step_s_low": 0.97 * step_s,
        "step_s_high": 1.04 * step_s,
        "plain_step_s": 0.0041 if is_curved else step_s,
        "refresh_step_s": 0.0061 if is_curved else None,
        "num_timed_steps": 60,
        "parameter_bytes": PARAMETER_BYTES,
        "optimizer_state_bytes": int(state * PARAMETER_BYTES),
        "hostname": "laptop",
        "hardware": "AMD EPYC 7B13, 2 cores",
        "load_before": 2.1,
        "started_at": start,
        "finished_at": start + pd.Timedelta(minutes=6),
        "environment": json.dumps({
            "commit": "0123abc",
            "versions": {"python": "3.11.2", "torch": "2.9.1", "ray": "2.60.0"},
        }),
    }


def _calibration(arm: str, name: str, workers: int) -> dict[str, Any]:
    scale = 1.0 if workers == 1 else 1.3
    shared = common(arm, name)
    seconds = ("step_s", "step_s_low", "step_s_high", "plain_step_s", "refresh_step_s")
    scaled = {key: shared[key] and scale * shared[key] for key in seconds}
    return run(f"{name}-c{workers}", **{**shared, **scaled}, purpose="calibrate", num_workers=workers)


def _trial(arm: str, name: str, trial: int, rng: np.random.Generator):
    top, best_lr = ARMS[arm][:2]
    lr = float(best_lr * 10 ** rng.uniform(-2.0, 1.0))
    hyperparameters = {"lr": lr, "damping": float(10 ** rng.uniform(-4, -1)), "gamma": float(rng.uniform(0.1, 0.99))}
    if arm in {"sgd", "adam"}:
        hyperparameters = {"lr": lr, "momentum": float(rng.uniform(0.1, 0.99))}
    decades = np.log10(lr / best_lr)
    is_lost = decades > 0.8
    score = None if is_lost else on_grid(top - 0.06 * decades**2 + rng.normal(0, 0.004))
    fields = {**common(arm, name), **hyperparameters, "hyperparameters": json.dumps(hyperparameters)}
    fields.pop("momentum", None)
    row = run(f"{name}-t{trial}", **fields, purpose="tune", trial=trial, num_workers=1, val_metric=score, seed=0)
    row |= {"status": "diverged" if is_lost else "completed", **_budget(arm, 4.0)}
    return row, curve_of(row, score or 0.3, rng, until=0.3 if is_lost else 1.0)


def _race(arm: str, name: str, seed: int, rng: np.random.Generator):
    top = ARMS[arm][0]
    score = on_grid(top + 0.004 * np.sin(seed) + rng.normal(0, 0.003))
    row = run(f"{name}-r{seed}", **common(arm, name), purpose="race", seed=seed) | _budget(arm, 12.0)
    row |= {"test_metric": score, "test_loss": 4 * (1 - top) + rng.normal(0, 0.004), "val_metric": score}
    curve = curve_of(row, score, rng)
    met = [point["budget_time_s"] for point in curve if point["val_metric"] >= TARGET]
    return row | {"time_to_target_s": met[0] if met else None}, curve


def _budget(arm: str, seconds: float) -> dict[str, Any]:
    steps = int(seconds / ARMS[arm][2])
    spent = steps * ARMS[arm][2]
    return {
        "num_steps": steps,
        "num_epochs": steps / STEPS_PER_EPOCH,
        "budget_seconds": seconds,
        "budget_time_s": spent,
        "overshoot_s": spent - seconds,
        "train_time_s": spent * (1.14 if arm == "adam" else 1.02),
        "total_time_s": spent * 1.2,
    }


def curve_of(row: dict[str, Any], end: float, rng: np.random.Generator, until: float = 1.0) -> list[dict[str, Any]]:
    count = min(100, int(row["num_epochs"]))
    points = []
    for share in np.linspace(1 / count, until, max(2, int(count * until))):
        accuracy = end - (end - 0.1) * np.exp(-9 * share) + rng.normal(0, 0.004 * (1 - share))
        points.append({
            "run_id": row["run_id"],
            "attempt": 1,
            "step": int(share * row["num_steps"]),
            "epoch": share * row["num_epochs"],
            "train_time_s": share * row["train_time_s"],
            "budget_time_s": share * row["budget_time_s"],
            "val_loss": 4 * (1.003 - min(accuracy, 1.0)),
            "val_metric": on_grid(accuracy),
            "test_metric": on_grid(accuracy),
        })
    return points


def spread_of(arm: str, run_id: str, num_steps: int) -> list[dict[str, Any]]:
    if not arm.startswith("adafisher"):
        return []
    rows = []
    for step in np.linspace(1, num_steps, 12).astype(int):
        if arm == "adafisher":
            extremes, percentiles = 1001.0, 6.0 + 20 * np.exp(-step / 400)
        else:
            extremes = percentiles = 1 + 0.18 * np.exp(-step / 200)
        values = {"preconditioner_spread": extremes, "preconditioner_spread_p95_p05": percentiles}
        values["preconditioner_spread/conv1.weight"] = extremes
        rows += [{"run_id": run_id, "attempt": 1, "step": step, "name": n, "value": v} for n, v in values.items()]
    return rows


def on_grid(accuracy: float) -> float:
    return round(min(1.0, accuracy) * TEST_SAMPLES) / TEST_SAMPLES


def cases(*, num_cases: int = 3, num_seeds: int = 3) -> TableSet:
    """Return a race in several cases with a control, a placebo and a lost run, and a profile of each arm."""
    rng = np.random.default_rng(5)
    arms = ["sgd", "sgd (control)", "adam", "adafisher_released", "adafisher_released (placebo)"]
    runs: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for place in range(num_cases):
        case = "base" if place == 0 else f"lr x{10.0**-place:g}"
        for arm in arms:
            kind = arm.partition(" ")[0]
            row = run(f"{case}/{arm}-p", **common(kind, arm), purpose="profile", case=case, num_workers=1)
            runs.append(row)
            parts = {"data": 1e-4, "forward": 1e-3, "backward": 2e-3, "factors": 4e-4, "step": 5e-4, "communication": 0}
            metrics += metrics_of(row["run_id"], {f"profile/{name}_s": value for name, value in parts.items()})
            for seed in range(100, 100 + num_seeds):
                row, curve = _race(kind, arm, seed, rng)
                row |= {"run_id": f"{case}/{row['run_id']}", "case": case, "lr": 10.0**-place, "num_workers": 1}
                row |= {"source": arm.partition("(")[2].rstrip(")") or "fixed"}
                if (case, arm, seed) == ("base", "adam", 100):
                    row |= {"status": "diverged", "test_metric": None, "test_loss": None}
                runs.append(row)
                epochs += [point | {"run_id": row["run_id"]} for point in curve]
    return TableSet(runs=runs, epochs=epochs, metrics=metrics)
