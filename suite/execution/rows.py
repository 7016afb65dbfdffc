"""The row of the table ``runs`` that a job leaves behind."""

import json
import socket
from dataclasses import asdict
from typing import Any

from suite import workloads
from suite.errors import UsageError
from suite.execution import provenance
from suite.execution.job import Job, configure
from suite.results import SCHEMA_VERSION
from suite.training.outcome import Outcome

_PLANNED = (  # columns that say of a run what its plan says
    *("study", "workload", "data_version", "purpose", "source", "sampler", "pruner", "trial", "seed", "splits"),
    *("num_workers", "num_threads", "batch_size", "sync_batchnorm", "initial_weights"),
)


def row_of(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Return the row of the table ``runs``, less its times."""
    run = job.run
    values, workload = described(job)
    plan = {name: getattr(run, name) for name in _PLANNED}
    return {
        "run_id": run.run_id,
        "attempt": job.attempt,
        "schema_version": SCHEMA_VERSION,
        **plan,
        "arm": run.label,
        "case": run.case or None,
        "optimizer": run.arm.optimizer,
        "budget": None if run.purpose in {"calibrate", "profile"} else str(run.budget),
        "schedule": str(run.schedule),
        **{name: values.get(name) for name in ("lr", "damping", "gamma", "weight_decay")},
        "hyperparameters": json.dumps(values),
        "search_space": json.dumps({name: asdict(atom) for name, atom in job.space.items()}) if job.space else None,
        **job.tuning,
        "status": outcome.status,
        **workload,
        **outcome.columns,
        "hostname": socket.gethostname(),
        "hardware": provenance.hardware(),
        "environment": provenance.environment(),
    }


def described(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job's hyperparameters and what its row says of the workload, as far as both can be looked up."""
    try:
        spec = workloads.find(job.run.workload)
        _, config = configure(job.run, job.hyperparameters)
    except UsageError:
        return {**job.run.arm.fixed, **job.hyperparameters}, {}
    return asdict(config), {"metric_name": spec.metric_name, "metric_goal": spec.metric_goal, "target": spec.target}
