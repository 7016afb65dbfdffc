"""The journal that optuna-dashboard opens, one Optuna study an arm: a view of the results, kept up while a sweep runs.

A view must neither stop a sweep nor disagree with its results. So a trial is written once it is finished, as one line
that holds all of it: none is ever left running. What cannot be written is said once, and nothing more is added, as a
half-written line would spoil the next; :func:`export` then sets it right at the end, and raises if it cannot.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from optimizers import Categorical, Float
from suite import workloads
from suite.config import Run
from suite.errors import UsageError
from suite.execution.sampling import Space, frozen_trial
from suite.results import Store
from suite.workloads import WorkloadSpec
from suite.workloads.files import one_line

FILE = "optuna.journal"
LOCK_S = 5.0  # an append takes milliseconds: a lock that is held longer was left behind

Row = Mapping[str, Any]
Key = tuple[str, str]  # a row's workload and arm


@dataclass(frozen=True, slots=True)
class _Arm:
    """What becomes one Optuna study.

    Args:
        name: Of the Optuna study.
        workload: What its trials train.
        space: What they search, where a row does not say it.
        trials: Its finished trials.
    """

    name: str
    workload: WorkloadSpec
    space: Space
    trials: list[FrozenTrial] = field(default_factory=list)

    def freeze(self, row: Row) -> FrozenTrial:
        """Return a row as a trial; the space is its own, as a sweep that extends itself leaves the declared one."""
        searched = row.get("search_space")
        space = {name: _atom(**atom) for name, atom in json.loads(searched).items()} if searched else self.space
        return frozen_trial(row, space, self.workload)


def _atom(**fields: Any) -> Float | Categorical:  # noqa: ANN401
    return Categorical(choices=tuple(fields["choices"])) if "choices" in fields else Float(**fields)


def export(trials: Sequence[Run], finished: Mapping[str, Row], store: Store) -> None:
    """Make certain that the journal holds each finished trial once, and nothing else.

    A local journal that lacks trials gets them at its end, so that an optuna-dashboard that has it open shows them too;
    one that holds anything else is replaced whole, after which an optuna-dashboard has to be started again.

    Args:
        trials: The planned trials of a study.
        finished: Rows of finished runs by run id.
        store: Where ``optuna.journal`` is.

    Raises:
        UsageError: If it cannot be written.
    """
    arms = _arms(trials)
    _freeze(arms, trials, finished)
    try:
        _update(arms, store)
    except OSError as error:
        raise UsageError(f"{store.folder.path(FILE)!r} cannot be written: {one_line(error)}") from error


class Dashboard:
    """Keeps the journal up with a sweep; on an object store, whose files cannot grow, it is written at the end alone.

    Args:
        trials: The planned trials of a study.
        finished: Rows of finished runs by run id.
        store: Where ``optuna.journal`` is; this process has it to itself.
        say: Prints a line.
    """

    def __init__(
        self, trials: Sequence[Run], finished: Mapping[str, Row], store: Store, say: Callable[[str], None]
    ) -> None:
        self._there = {run.run_id for run in trials if run.run_id in finished}
        self._arms = _arms(trials)
        self._store, self._say = store, say
        self._has_failed = False
        self._storage: JournalStorage | None = None
        self._guarded(lambda: _freeze(self._arms, trials, finished))
        if store.folder.is_local:
            self._guarded(self._open)

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        path = self._store.folder.path(FILE)
        Path(f"{path}.lock").unlink(missing_ok=True)  # of a process that was killed
        _update(self._arms, self._store)
        self._storage = _storage(path)

    def add(self, row: Row) -> None:
        """Append a finished trial, unless it is there; what is no arm of the sweep is left out.

        Args:
            row: Of the table ``runs``.
        """
        arm = self._arms.get(_key(row))
        if arm is not None and row["run_id"] not in self._there:
            self._there.add(row["run_id"])
            self._guarded(lambda: self._append(arm, row))

    def _append(self, arm: _Arm, row: Row) -> None:
        trial = arm.freeze(row)
        arm.trials.append(trial)
        if self._storage is not None:
            optuna.load_study(study_name=arm.name, storage=self._storage).add_trial(trial)

    def close(self) -> None:
        """Write the journal where it could not grow; a second call does it again."""
        if not self._store.folder.is_local:
            self._guarded(lambda: _update(self._arms, self._store))

    def _guarded(self, write: Callable[[], None]) -> None:
        """Write unless that failed before; whatever it raises, Optuna's own errors too, must not stop the sweep."""
        if self._has_failed:
            return
        try:
            write()
        except Exception as error:
            self._has_failed = True
            self._say(f"{FILE} is not kept up, but the sweep goes on: {type(error).__name__}: {one_line(error)}")


def _key(row: Row) -> Key:
    return row["workload"], row["arm"]


def _arms(trials: Sequence[Run]) -> dict[Key, _Arm]:
    """Return the arms of a sweep on each workload, without trials."""
    is_plain = len({run.workload for run in trials}) == 1
    arms: dict[Key, _Arm] = {}
    for run in trials:
        if (run.workload, run.label) not in arms:
            name = f"{run.study}/{run.label}" if is_plain else f"{run.study}/{run.label} on {run.workload}"
            arms[run.workload, run.label] = _Arm(name, workloads.find(run.workload), run.arm.search_space or {})
    return arms


def _freeze(arms: Mapping[Key, _Arm], trials: Sequence[Run], finished: Mapping[str, Row]) -> None:
    """Give the arms their finished trials."""
    for row in (finished[run.run_id] for run in trials if run.run_id in finished):
        arm = arms[_key(row)]
        arm.trials.append(arm.freeze(row))


def _update(arms: Mapping[Key, _Arm], store: Store) -> None:
    """Append what a local journal lacks; write it whole if it is another's, damaged, or on an object store."""
    if store.folder.is_local and _can_grow(Path(store.folder.path(FILE)), arms):
        _fill(store.folder.path(FILE), arms)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE)
        _fill(str(path), arms)
        store.folder.write(FILE, path.read_bytes())


def _can_grow(path: Path, arms: Mapping[Key, _Arm]) -> bool:
    """Whether a journal holds nothing but finished trials of these arms, each once, and ends with a whole line."""
    wanted = {arm.name: arm for arm in arms.values()}
    try:
        if not path.read_bytes().endswith(b"\n"):
            return False
        for study in _studies(path):
            arm = wanted.get(study.study_name)
            if arm is None or study.direction.name.lower() != arm.workload.metric_goal:
                return False
            content, planned = [_content(trial) for trial in study.trials], [_content(trial) for trial in arm.trials]
            if any(content.count(trial) > 1 or trial not in planned for trial in content):
                return False
    except Exception:  # there is none, or it is damaged, so that Optuna may raise anything: it is written anew
        return False
    return True


def _fill(path: str, arms: Mapping[Key, _Arm]) -> None:
    """Append the arms and trials that a journal lacks."""
    storage = _storage(path)
    there = set(optuna.get_all_study_names(storage))
    for arm in arms.values():
        if arm.name in there:
            study = optuna.load_study(study_name=arm.name, storage=storage)
        else:
            study = optuna.create_study(study_name=arm.name, storage=storage, direction=arm.workload.metric_goal)
        present = [_content(trial) for trial in study.trials]
        study.add_trials([trial for trial in arm.trials if _content(trial) not in present])


def _studies(path: Path) -> list[optuna.Study]:
    storage = _storage(str(path))
    return [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]


def _content(trial: FrozenTrial) -> tuple[Any, ...]:
    """Return what makes two trials the same, however they are numbered."""
    return trial.user_attrs, trial.state, trial.value, trial.params, trial.intermediate_values


def _storage(path: str) -> JournalStorage:
    return JournalStorage(JournalFileBackend(path, _Lock(path)))


class _Lock(JournalFileOpenLock):
    """Optuna's lock file, which keeps an optuna-dashboard from writing a note just then, but whose wait is bounded.

    Optuna's own locks wait 30 s for one that was left behind, and for ever if it is a link that points nowhere, as an
    optuna-dashboard leaves that was given a relative path and killed.
    """

    def acquire(self) -> bool:
        """Take the lock, after a while by force.

        Returns:
            ``True``.
        """
        patience = time.monotonic() + LOCK_S
        while True:
            try:
                os.close(os.open(self._lock_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                return True
            except FileExistsError:
                if time.monotonic() > patience:
                    self.release()
                time.sleep(0.01)

    def release(self) -> None:
        """Give the lock back; if another took it by force, there is nothing to give."""
        with suppress(FileNotFoundError):
            os.unlink(self._lock_file)
