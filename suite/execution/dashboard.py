"""The study that optuna-dashboard opens: written from the results, so that it can never disagree with them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from suite import workloads
from suite.config import Run
from suite.execution.sampling import frozen_trial
from suite.results import Store

FILE = "optuna.journal"


def export(trials: list[Run], finished: Mapping[str, Mapping[str, Any]], store: Store) -> None:
    """Write all finished trials as one Optuna study an arm, replacing the last export whole.

    Args:
        trials: The planned trials of a study.
        finished: Rows of finished runs by run id.
        store: Where to write ``optuna.journal``.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        storage = JournalStorage(JournalFileBackend(str(path)))
        for arm in dict.fromkeys(run.arm.name for run in trials):
            runs = [run for run in trials if run.arm.name == arm]
            workload = workloads.find(runs[0].workload)
            study = optuna.create_study(
                study_name=f"{runs[0].study}/{arm}", storage=storage, direction=workload.metric_goal
            )
            rows = [finished[run.run_id] for run in runs if run.run_id in finished]
            study.add_trials([frozen_trial(row, runs[0].arm.search_space or {}, workload) for row in rows])
        if path.exists():
            store.folder.write(FILE, path.read_bytes())
