"""The schema of the results, column by column: the one place that says what a column means and in which unit.

Five tables in long form. ``runs`` has a row a run; ``epochs`` a row an evaluation; ``steps`` a row a sampled
training step; ``metrics`` a row a (step, name, value) of diagnostics; ``arrays`` a row an entry of what a diagnostic
found that is no single number. All share ``run_id`` and ``attempt``.
A new column, or a change of a column's meaning, raises :data:`SCHEMA_VERSION`; what an older file lacks is null.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 4


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        name: As in the data frame.
        type: Arrow type.
        doc: Meaning, and the unit of a number that has one.
    """

    name: str
    type: pa.DataType
    doc: str


_STR, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()

KEY = (
    Column("run_id", _STR, "hash of what was planned; the same in every table"),
    Column(
        "attempt", _INT, "number of this finished try, from 1; a race whose winner has changed since makes the next"
    ),
)

RUNS = (
    *KEY,
    # what was planned
    Column("schema_version", _INT, "version of this schema"),
    Column("study", _STR, "name of the study"),
    Column("workload", _STR, "name of the workload"),
    Column(
        "data_version", _STR, "tells the workload's data from others of the same name; null where the name says it all"
    ),
    Column(
        "arm",
        _STR,
        "name of the optimizer configuration under comparison; '(default)' or '(transferred)' behind it says where the "
        "hyperparameters come from, if not from its own sweep; '(placebo)' is its twin without curvature, '(control)' "
        "the same once more",
    ),
    Column(
        "case", _STR, "name of the conditions that tell this run from others of the study; null where all are alike"
    ),
    Column("optimizer", _STR, "name in the optimizer registry, package.module.Class, or package.module:SPEC"),
    Column("purpose", _STR, "tune, race, calibrate, profile (a step's parts), pretrain or single"),
    Column("trial", _INT, "number within the sweep of this arm, from 0; null outside a sweep"),
    Column(
        "source",
        _STR,
        "where the hyperparameters come from: sampled, winner (of the sweep), default (of the optimizer), transferred "
        "(the winner on another workload), fixed (by the arm), placebo (of the arm, as another optimizer without its "
        "curvature) or control (as the arm's, once more)",
    ),
    Column("sampler", _STR, "what proposed the hyperparameters of a trial; else null"),
    Column("pruner", _STR, "what could stop the trial early: asha or median; null if nothing could"),
    Column("search_space", _STR, "what was searched when the trial was proposed, as JSON; null outside a sweep"),
    Column(
        "num_tuning_trials", _INT, "trials of the sweep that a race's winner was chosen from, 0 for defaults; else null"
    ),
    Column(
        "tuning_time_s", _FLOAT, "training time that those trials took together, measured; 0 for defaults; else null"
    ),
    Column("seed", _INT, "seed of initialization, data order and model randomness"),
    Column("num_workers", _INT, "data-parallel workers"),
    Column("num_threads", _INT, "CPU threads per worker"),
    Column("batch_size", _INT, "samples per step over all workers"),
    Column("budget", _STR, "budget as asked, e.g. '12s, calibrated'; null for a calibration"),
    Column("budget_seconds", _FLOAT, "seconds of training asked for; null for budgets in epochs or steps"),
    Column("schedule", _STR, "learning-rate schedule over the fraction of the budget"),
    Column("splits", _STR, "standard (validation selects, test reports) or paper (trained on both, test selects)"),
    Column("sync_batchnorm", pa.bool_(), "whether BatchNorm statistics were taken over all workers"),
    Column("initial_weights", _STR, "run_id of the training whose weights this one began with; null for random ones"),
    # hyperparameters
    Column("lr", _FLOAT, "learning rate"),
    Column("damping", _FLOAT, "λ; null where the optimizer has none"),
    Column("gamma", _FLOAT, "γ, weight of the new factor; null where the optimizer has none"),
    Column("weight_decay", _FLOAT, "weight decay"),
    Column("hyperparameters", _STR, "all hyperparameters as JSON, the typed ones included"),
    # outcome
    Column("status", _STR, "completed, target_reached, pruned, diverged, out_of_memory or failed"),
    Column("error", _STR, "why a run failed or ran out of memory, as a rule a traceback; else null"),
    Column("num_steps", _INT, "training steps taken"),
    Column("num_epochs", _FLOAT, "passes over the training split, fractional"),
    Column("train_loss", _FLOAT, "mean training loss over the last checking interval"),
    Column("val_loss", _FLOAT, "loss on the validation split at the end; null with splits='paper'"),
    Column("val_metric", _FLOAT, "the workload's metric on the validation split at the end"),
    Column("test_loss", _FLOAT, "loss on the test split at the end"),
    Column("test_metric", _FLOAT, "the workload's metric on the test split at the end"),
    Column("best_val_metric", _FLOAT, "best validation metric over training"),
    Column("test_metric_at_best_val", _FLOAT, "test metric at the evaluation with the best validation metric"),
    Column("best_test_metric", _FLOAT, "best test metric over training: optimistic, selected on the test split"),
    Column("metric_name", _STR, "name of the workload's metric, e.g. accuracy"),
    Column("metric_goal", _STR, "maximize or minimize"),
    Column("target", _FLOAT, "the workload's target for the validation metric"),
    Column("time_to_target_s", _FLOAT, "budget_time_s of the first evaluation that met the target; null if none did"),
    # times
    Column("train_time_s", _FLOAT, "measured training time: data wait, forward, backward, step; maximum over workers"),
    Column("budget_time_s", _FLOAT, "time that ranks: steps x calibrated seconds if calibrated, else train_time_s"),
    Column(
        "overshoot_s",
        _FLOAT,
        "budget_time_s minus budget_seconds; null unless the run completed a budget that is a time",
    ),
    Column("eval_time_s", _FLOAT, "time in evaluations, not charged"),
    Column("checkpoint_time_s", _FLOAT, "time in writing checkpoints, not charged"),
    Column("warmup_time_s", _FLOAT, "time in warm-up steps on a throw-away copy, not charged"),
    Column("data_time_s", _FLOAT, "part of train_time_s spent waiting for data"),
    Column("total_time_s", _FLOAT, "wall-clock time of the run with everything above, over all its starts"),
    Column("started_at", pa.timestamp("us", tz="UTC"), "when the process that finished the run took it up"),
    Column("finished_at", pa.timestamp("us", tz="UTC"), "when the run was finished"),
    Column("num_resumes", _INT, "how often the run went on from a checkpoint"),
    # calibration (purpose = calibrate measures, the others carry what they used)
    Column("step_s", _FLOAT, "calibrated seconds per step, plain and refresh combined by frequency"),
    Column("step_s_low", _FLOAT, "lower end of its 95 % interval"),
    Column("step_s_high", _FLOAT, "upper end of its 95 % interval"),
    Column("plain_step_s", _FLOAT, "seconds of a step that refreshes no factors"),
    Column("refresh_step_s", _FLOAT, "seconds of a step that refreshes factors; null where there are none"),
    Column("num_timed_steps", _INT, "steps behind the calibration"),
    Column("is_quiet", pa.bool_(), "whether the machine was idle when the calibration began; null otherwise"),
    # memory
    Column("num_parameters", _INT, "trainable parameters of the model"),
    Column("parameter_bytes", _INT, "bytes of the trainable parameters"),
    Column(
        "optimizer_state_bytes", _INT, "bytes of every tensor that the optimizer holds beside parameters and gradients"
    ),
    Column(
        "peak_rss_bytes", _INT, "high-water mark of the worker process, maximum over workers; a process may be reused"
    ),
    Column("peak_cuda_allocated_bytes", _INT, "torch.cuda.max_memory_allocated, maximum over workers; null on the CPU"),
    Column("peak_cuda_reserved_bytes", _INT, "torch.cuda.max_memory_reserved, maximum over workers; null on the CPU"),
    # environment
    Column("hostname", _STR, "host of rank 0"),
    Column("hardware", _STR, "processor or accelerator model and the number of cores"),
    Column("load_before", _FLOAT, "1-minute load average when the run started"),
    Column("environment", _STR, "versions, commit, platform and relevant environment variables as JSON"),
)

EPOCHS = (
    *KEY,
    Column("step", _INT, "training steps taken at this evaluation"),
    Column("epoch", _FLOAT, "passes over the training split at this evaluation"),
    Column("train_time_s", _FLOAT, "measured training time at this evaluation"),
    Column("budget_time_s", _FLOAT, "time that ranks at this evaluation"),
    Column("lr", _FLOAT, "learning rate of the last step"),
    Column("train_loss", _FLOAT, "mean training loss since the previous check"),
    Column("val_loss", _FLOAT, "loss on the validation split"),
    Column("val_metric", _FLOAT, "metric on the validation split"),
    Column("test_loss", _FLOAT, "loss on the test split"),
    Column("test_metric", _FLOAT, "metric on the test split"),
)

STEPS = (
    *KEY,
    Column("step", _INT, "number of the sampled step, from 1"),
    Column("loss", _FLOAT, "training loss of this step on rank 0"),
    Column("lr", _FLOAT, "learning rate of this step"),
    Column("step_time_ms", _FLOAT, "measured time of this step"),
    Column("is_refresh", pa.bool_(), "whether the step refreshed the optimizer's factors"),
)

METRICS = (
    *KEY,
    Column("step", _INT, "training steps taken"),
    Column("name", _STR, "name of the quantity, e.g. preconditioner_spread"),
    Column("value", _FLOAT, "its value"),
)

ARRAYS = (
    *KEY,
    Column("step", _INT, "training steps taken"),
    Column("name", _STR, "name of the array, e.g. kronecker_structure/last_linear/S/eigenvalues"),
    Column("row", _INT, "first index, from 0"),
    Column("column", _INT, "second index, from 0; 0 in an array of one dimension"),
    Column("value", _FLOAT, "its entry there"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "runs": RUNS,
    "epochs": EPOCHS,
    "steps": STEPS,
    "metrics": METRICS,
    "arrays": ARRAYS,
}

# Share of the training time spent waiting for data from which a run counts as input-bound: what it measures is then the
# loader as much as the optimizer.
INPUT_BOUND = 0.10

STATUSES = ("completed", "target_reached", "pruned", "diverged", "out_of_memory", "failed")


def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table.

    Args:
        table: A key of :data:`TABLES`.

    Returns:
        Its columns in order.
    """
    return pa.schema([pa.field(c.name, c.type) for c in TABLES[table]])


def markdown() -> str:
    """Return the documentation of all tables, as ``docs/results.md`` has it.

    Returns:
        A heading and a table of columns for each.
    """
    parts = []
    for name, columns in TABLES.items():
        rows = [f"| `{c.name}` | {c.type} | {c.doc.replace('|', chr(92) + '|')} |" for c in columns]
        parts.append("\n".join([f"### {name}", "", "| column | type | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)
