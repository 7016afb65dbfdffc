"""One training from its first step to its last: the same loop for every arm.

The loop knows no files and no Ray: checkpoints go through a :class:`Checkpoints`, what is measured about curvature
through probes, and everything learned comes back as an :class:`Outcome`.
"""

import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from suite.training import memory
from suite.training.assembly import Assembly, Task, batches_of
from suite.training.clock import TrainClock
from suite.training.evaluation import evaluate, take_buffers_of_rank_0
from suite.training.limits import Limit, StepLimit
from suite.training.outcome import Checkpoints, Outcome, Probe, Watch, entries_of
from suite.training.schedule import lr_factor
from suite.training.workers import Workers

CHECKPOINT_INTERVAL_S = 30.0  # of training time; quicker runs start again
CHECK_INTERVAL = (
    10  # steps between looks at the loss: a look waits for the device and, with several workers, for the others
)
RUNAWAY_FACTOR = 1000.0  # a loss this many times the first one has diverged, though it may still be finite
MAX_EVALUATIONS = 100  # where the number of steps is known: many short epochs are not evaluated one by one
MAX_TRIAL_EVALUATIONS = 20  # of a trial, which is chosen by its end
WARMUP_STEPS = 3


def train(
    task: Task,
    *,
    limit: Limit,
    clock: TrainClock,
    workers: Workers,
    step_s: float | None = None,
    checkpoints: Checkpoints | None = None,
    probes: Sequence[Probe] = (),
    watch: Watch | None = None,
    keep: Callable[[nn.Module], None] | None = None,
) -> Outcome:
    """Train a task until its budget is spent; a collective call where there are several workers.

    Args:
        task: What to train.
        limit: When to stop.
        clock: Charged with the training; a new one.
        workers: Who trains.
        step_s: Calibrated seconds per step, where the budget is a calibrated time.
        checkpoints: Where a stopped run goes on from; rank 0's counts.
        probes: Called at evaluations on rank 0, outside the clock.
        watch: Told at evaluations, on rank 0 and outside the clock, the fraction of the budget used and the validation
            metric; says whether the run is to be pruned.
        keep: Given the trained network at the end, on rank 0, unless it diverged.

    Returns:
        The outcome; times are maxima over the workers.
    """
    started = clock.now()
    memory.keep_freed_memory()
    with clock.account("warmup"):
        _warm_up(task, workers)
    training = _Training(
        task, limit, clock, workers, started=started, step_s=step_s, checkpoints=checkpoints, probes=probes, watch=watch
    )
    training.restore()
    outcome = training.run()
    if keep is not None and workers.rank == 0 and outcome.status != "diverged":
        keep(training.assembly.model)
    return outcome


def _warm_up(task: Task, workers: Workers) -> None:
    """Take a few steps on a throw-away copy, so that no run pays for what the process does only once."""
    assembly = Assembly(task, workers)
    batches = batches_of(task, workers)
    for step in range(WARMUP_STEPS):
        assembly.step(step, batches.at(step), 1.0).item()
    del assembly
    memory.reset_peaks(task.device)


class _Training:
    """A run in progress. What a checkpoint must hold is in ``assembly``, ``clock`` and ``progress``."""

    def __init__(
        self,
        task: Task,
        limit: Limit,
        clock: TrainClock,
        workers: Workers,
        *,
        started: float,
        step_s: float | None,
        checkpoints: Checkpoints | None,
        probes: Sequence[Probe],
        watch: Watch | None,
    ) -> None:
        self.task, self.limit, self.clock, self.workers = task, limit, clock, workers
        self.step_s, self.checkpoints, self.probes = step_s, checkpoints, probes
        self.watch = watch
        self.frac_used = 0.0  # as the limit said before the last step; 1 at the end
        self.batches = batches_of(task, workers)
        self.assembly = Assembly(task, workers)
        self.outcome = Outcome()
        self.progress: dict[str, Any] = {"step": 0, "first_loss": None, "train_loss": None, "num_resumes": 0}
        self.progress["probed_frac"] = 0.0
        self.unread: list[Tensor] = []  # losses since the last check, on the device
        self.sampled: list[dict[str, Any]] = []  # rows of steps whose loss is among them
        self.checkpointed_at_s = 0.0
        self.checkpoint_is_due = False
        self.started, self.time_before_s = started, 0.0
        self.eval_interval = self.batches.steps_per_epoch
        if isinstance(limit, StepLimit):
            most = MAX_TRIAL_EVALUATIONS if task.run.purpose == "tune" else MAX_EVALUATIONS
            self.eval_interval = max(self.eval_interval, math.ceil(limit.num_steps / most))

    def run(self) -> Outcome:
        """Train to the end of the budget, to divergence, or to the target."""
        self.clock.resume()
        while (frac := self.limit.frac_used(self.progress["step"])) is not None:
            self.frac_used = frac
            self._step(frac)
            step = self.progress["step"]
            is_evaluation = step % self.eval_interval == 0
            if (is_evaluation or step % CHECK_INTERVAL == 0) and self._interlude(is_evaluation):
                break
        else:
            self.frac_used = 1.0
            if not self.outcome.epochs or self.outcome.epochs[-1]["step"] < self.progress["step"]:
                self._interlude(is_evaluation=True)
            elif self.workers.rank == 0 and self.progress["probed_frac"] < 1:  # it was not known to be the last one
                with self.clock.account("eval"):
                    self._probe()
        self.outcome.columns |= self._summary()
        return self.outcome

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        content = self.checkpoints.read() if self.checkpoints and self.workers.rank == 0 else None
        content = self.workers.share(content)
        if content is None:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if state["config"] != asdict(self.task.config):
            return  # a sampler that learns proposed another point for this trial
        self.assembly.load_state_dict(state["assembly"])
        self.clock.load_state_dict(state["clock"])
        self.progress |= state["progress"]
        self.progress["num_resumes"] += 1
        self.time_before_s = self.progress["total_time_s"]
        self.outcome = Outcome(**state["outcome"])
        self.checkpointed_at_s = self.clock.train_s

    def _step(self, frac: float) -> None:
        step = self.progress["step"]
        with self.clock.waiting_for_data():
            batch = self.batches.at(step)
        loss = self.assembly.step(step, batch, lr_factor(self.task.run.schedule, frac))
        self.progress["step"] = step + 1
        row = None
        if step % CHECK_INTERVAL == 0:
            row = {
                "step": step + 1,
                "loss": len(self.unread),  # its place among the unread ones, until they are read
                "lr": self.assembly.lr,
                "is_refresh": self.assembly.has_refreshed,
            }
            self.sampled.append(row)
        self._note(self.clock.lap(row))
        self.unread.append(loss)

    @staticmethod
    def _note(laps: list[tuple[Any, float]]) -> None:
        for row, seconds in laps:
            if row is not None:
                row["step_time_ms"] = seconds * 1e3

    def _interlude(self, is_evaluation: bool) -> bool:
        """Do what is not charged, with the clock stopped, and return whether the run ends here; a collective call."""
        self._note(self.clock.pause())
        with self.clock.account("eval"):
            ends = self._has_diverged() or (is_evaluation and self._evaluate())
        if self.checkpoint_is_due and not ends:
            with self.clock.account("checkpoint"):
                self._checkpoint()
        self.clock.resume()
        return ends

    def _has_diverged(self) -> bool:
        """Read the losses since the last look, averaged over the workers, and judge them.

        Whether rank 0's clock says that a checkpoint is due goes along, so that all workers write it at the same step.

        Returns:
            Whether the run is at an end.
        """
        if not self.unread:
            return False
        losses = torch.stack(self.unread).double().cpu()
        for row in self.sampled:
            row["loss"] = losses[row["loss"]].item()
        self.outcome.steps += self.sampled
        self.unread, self.sampled = [], []
        is_due = self.clock.train_s - self.checkpointed_at_s >= CHECKPOINT_INTERVAL_S and self.workers.rank == 0
        message = torch.tensor([losses.mean().item(), float(is_due)], dtype=torch.float64)
        loss, due = self.workers.mean(message).tolist()
        self.checkpoint_is_due = due > 0 and self.checkpoints is not None
        self.progress["train_loss"] = loss
        if self.progress["first_loss"] is None:
            self.progress["first_loss"] = loss
        if math.isfinite(loss) and loss <= RUNAWAY_FACTOR * max(self.progress["first_loss"], 1.0):
            return False
        self.outcome.status = "diverged"
        return True

    def _evaluate(self) -> bool:
        """Evaluate on all splits, and return whether the run ends here."""
        [train_s] = self.workers.maximum([self.clock.train_s])
        row, more = self._epoch_row(train_s)
        scores = [row[name] for name in ("val_loss", "val_metric", "test_loss", "test_metric")]
        if not all(score is None or math.isfinite(score) for score in scores):
            self.outcome.status = "diverged"
            return True
        self.outcome.epochs.append(row)
        if self.workers.rank == 0:
            self._probe(more)
        metric = row["val_metric"]
        if self.task.run.stop_at_target and metric is not None and self.task.workload.reaches(metric):
            self.outcome.status = "target_reached"
            return True
        if self._is_pruned(metric):
            self.outcome.status = "pruned"
            return True
        return False

    @property
    def _frac(self) -> float:
        """Fraction of the budget that is used now."""
        return self.progress["step"] / self.limit.num_steps if isinstance(self.limit, StepLimit) else self.frac_used

    def _probe(self, more: Mapping[str, float] | None = None) -> None:
        """Take down what the probes measure, and further metrics by name."""
        step, frac, before = self.progress["step"], self._frac, self.progress["probed_frac"]
        model, optimizer = self.assembly.model, self.assembly.optimizer
        is_again = bool(self.outcome.epochs) and more is None  # at an evaluation that turned out to be the last
        values: dict[str, float] = dict(more or {})
        arrays: dict[str, Tensor] = {}
        for probe in self.probes:
            found, found_arrays = probe(model, optimizer, step=step, frac=frac, frac_before=before)
            values |= found
            arrays |= found_arrays
        if is_again:
            self._forget(step, {*values, *arrays})
        self.outcome.metrics += [{"step": step, "name": name, "value": value} for name, value in values.items()]
        self.outcome.arrays += [entry for name, array in arrays.items() for entry in entries_of(name, array, step)]
        self.progress["probed_frac"] = frac

    def _forget(self, step: int, names: Collection[str]) -> None:
        """Drop what was found at a step and is found anew."""
        for rows in (self.outcome.metrics, self.outcome.arrays):
            rows[:] = [row for row in rows if row["step"] != step or row["name"] not in names]

    def _is_pruned(self, metric: float | None) -> bool:
        """Ask rank 0's watch whether the run is to stop early; a collective call where there is one."""
        frac = self._frac
        if self.watch is None or metric is None or frac >= 1:
            return False
        return self.workers.share(self.watch(frac, metric) if self.workers.rank == 0 else False)

    def _epoch_row(self, train_s: float) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the row of an evaluation, and the workload's further metrics by name."""
        task, step = self.task, self.progress["step"]
        take_buffers_of_rank_0(self.assembly.model, self.workers)
        more: dict[str, float] = {}
        row: dict[str, Any] = {
            "step": step,
            "epoch": step / self.batches.steps_per_epoch,
            "train_time_s": train_s,
            "budget_time_s": train_s if self.step_s is None else step * self.step_s,
            "lr": self.assembly.lr,
            "train_loss": self.progress["train_loss"],
            "val_loss": None,
            "val_metric": None,
        }
        for name in ("val", "test"):
            split = getattr(task.data, name)
            if split is not None:
                score = evaluate(self.assembly.model, split, task.workload, self.workers, task.device)
                row |= {f"{name}_loss": score.loss, f"{name}_metric": score.metric}
                more |= {f"{name}_{metric}": value for metric, value in score.more.items()}
        return row, more

    def _checkpoint(self) -> None:
        """Write a checkpoint on rank 0, while the others wait."""
        self.progress["total_time_s"] = self._total_time_s()
        if self.checkpoints is not None and self.workers.rank == 0:
            buffer = io.BytesIO()
            torch.save(self._state(), buffer)
            self.checkpoints.write(buffer.getvalue())
        self.workers.share(None)
        self.checkpointed_at_s = self.clock.train_s
        self.checkpoint_is_due = False

    def _total_time_s(self) -> float:
        """Return the wall-clock time of the run so far, of earlier starts up to their last checkpoint."""
        return float(self.time_before_s + self.clock.now() - self.started)

    def _state(self) -> dict[str, Any]:
        return {
            "config": asdict(self.task.config),
            "assembly": self.assembly.state_dict(),
            "clock": self.clock.state_dict(),
            "progress": self.progress,
            "outcome": vars(self.outcome),
        }

    def _summary(self) -> dict[str, Any]:
        """Return the columns of ``runs`` that the loop knows; a collective call."""
        clock, epochs, workload = self.clock, self.outcome.epochs, self.task.workload
        names = ["train_time_s", "data_time_s", "eval_time_s", "checkpoint_time_s", "warmup_time_s"]
        spent = [clock.train_s, clock.data_s, clock.spent["eval"], clock.spent["checkpoint"], clock.spent["warmup"]]
        times = dict(zip(names, self.workers.maximum(spent), strict=True))
        num_parameters, parameter_bytes = memory.parameter_bytes(self.assembly.model)
        peaks = memory.peaks(self.task.device)
        highest = self.workers.maximum([float(value or 0) for value in peaks.values()])
        step = self.progress["step"]
        best = _best(epochs, "val_metric", workload.is_better)
        best_test = _best(epochs, "test_metric", workload.is_better)
        last = epochs[-1] if epochs and self.outcome.status != "diverged" else {}
        reached = [row for row in epochs if row["val_metric"] is not None and workload.reaches(row["val_metric"])]
        return {
            **times,
            **{
                name: int(high) for (name, value), high in zip(peaks.items(), highest, strict=True) if value is not None
            },
            "budget_time_s": times["train_time_s"] if self.step_s is None else step * self.step_s,
            "num_steps": step,
            "num_epochs": step / self.batches.steps_per_epoch,
            "train_loss": self.progress["train_loss"],
            **{name: last.get(name) for name in ("val_loss", "val_metric", "test_loss", "test_metric")},
            "best_val_metric": best.get("val_metric"),
            "test_metric_at_best_val": best.get("test_metric"),
            "best_test_metric": best_test.get("test_metric"),
            "time_to_target_s": reached[0]["budget_time_s"] if reached else None,
            "total_time_s": self._total_time_s(),
            "num_resumes": self.progress["num_resumes"],
            "num_parameters": num_parameters,
            "parameter_bytes": parameter_bytes,
            "optimizer_state_bytes": memory.optimizer_state_bytes(self.assembly.optimizer),
        }


def _best(epochs: list[dict[str, Any]], name: str, is_better: Callable[[float, float | None], bool]) -> dict[str, Any]:
    """Return the first evaluation with the best value of a metric; empty if there is none."""
    best: dict[str, Any] = {}
    for row in epochs:
        if row[name] is not None and is_better(row[name], best.get(name)):
            best = row
    return best
