"""Rows of results that no run has made."""

import json
from datetime import UTC, datetime, timedelta

from suite.results import SCHEMA_VERSION

START = datetime(2026, 1, 1, tzinfo=UTC)


def run_row(run_id="r0", attempt=1, **changes):
    """Return a row of ``runs``; its other columns are null."""
    row = {
        "run_id": run_id,
        "attempt": attempt,
        "schema_version": SCHEMA_VERSION,
        "study": "tiny",
        "workload": "tests.suite.tiny:MLP",
        "arm": "sgd",
        "purpose": "tune",
        "trial": 0,
        "seed": 0,
        "lr": 0.5,
        "hyperparameters": json.dumps({"lr": 0.5}),
        "status": "completed",
        "val_metric": 0.75,
        "val_loss": 0.5,
        "test_metric": 0.625,
        "metric_name": "accuracy",
        "train_time_s": 2.0,
        "started_at": START,
        "finished_at": START + timedelta(seconds=2),
    }
    return row | changes


def long_rows(value=0.0):
    """Return two rows of each of the long tables."""
    return {
        "epochs": [{"step": step, "epoch": 0.5, "val_loss": value, "test_metric": None} for step in (10, 20)],
        "steps": [{"step": step, "loss": value, "is_refresh": step == 1} for step in (1, 11)],
        "metrics": [{"step": step, "name": "spread", "value": value} for step in (10, 20)],
        "arrays": [{"step": 20, "name": "spectrum", "row": row, "column": 0, "value": value} for row in (0, 1)],
    }


def planned_row(run, **changes):
    """Return the row of a planned run."""
    names = ("study", "workload", "purpose", "trial", "seed")
    return run_row(run.run_id, arm=run.label, **{name: getattr(run, name) for name in names}) | changes
