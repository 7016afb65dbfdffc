"""The tables of a report, as text ready to print: numbers rounded and with their units."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reports import text
from reports.frames import Frames, calibrations, race_runs, times
from reports.race import Race, Standing, time_to_target, verdict
from reports.stats import Comparison
from reports.sweep import Search


@dataclass(frozen=True, slots=True)
class Table:
    """A table of strings.

    Args:
        title: In sentence case.
        columns: Headings, with units.
        rows: Cells, as many as columns.
        note: How to read it.
        name: Of its file, where it is downloaded; empty: by its title.
        values: What the cells were made from, to sort and download by; empty: the cells themselves.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    name: str = ""
    values: tuple[tuple[object, ...], ...] = ()


def leaderboard(result: Race) -> Table:
    """Return the standings, with whether each arm is resolved against the best one."""
    verdicts = result.against_best()
    has_tuning = any(math.isfinite(s.num_tuning_trials) for s in result.standings)
    rows = (
        (
            s.arm,
            text.estimate(s.metric),
            text.interval(s.metric),
            verdicts.get(s.arm, text.NOTHING),
            text.estimate(s.loss),
            time_to_target(s),
            f"{s.num_runs - s.num_lost} of {s.num_runs}",
            *([_tuning(s)] if has_tuning else []),
        )
        for s in result.standings
    )
    name, target = result.metric.name, result.metric.target
    goal = f"validation {name} {target:g}" if math.isfinite(target) else "the target"
    columns = ("Arm", f"Test {name}", "95 % interval", "Against the best", "Test loss", f"Time to {goal}")
    return Table(
        "Leaderboard",
        (*columns, "Runs that count", *(["Tuned with"] if has_tuning else [])),
        tuple(rows),
        _sources(result)
        + f"Mean ± standard deviation over seeds; {name}: {result.metric.good}. The order says nothing where the table "
        "says “not resolved”. A lost run (diverged, out of memory, failed) is counted and loses: arms that lost "
        "runs stand below those that did not, and are not tested."
        + (" A control competes with no arm but the one that it is." if result.controls else ""),
    )


def comparisons(quantity: str, pairs: Iterable[Comparison]) -> Table:
    """Return all pairs of arms by one quantity."""
    rows = (
        (
            f"{c.first} − {c.second}",
            text.difference(c.difference),
            text.p_value(c.p_holm),
            verdict(c),
            text.number(c.detectable, 2),
            _seeds(c),
            text.number(c.p_improvement, 2),
        )
        for c in pairs
    )
    return Table(
        f"Pairs of arms by {quantity}",
        ("Pair", "Difference", "p (Holm)", "Verdict", "Resolvable", "Seeds needed", "P(first is better)"),
        tuple(rows),
        "Two-sided paired t-test over common seeds, Holm-corrected over the pairs of this table; resolved below 0.05. "
        "If all seeds differ by the same amount there is no variance to test with: the exact sign-flip test decides. "
        "Resolvable: the smallest difference that had an 80 % chance to be resolved here. Seeds needed: for an 80 % "
        "chance to resolve the seen difference. P(first is better), over all pairs of seeds, decides nothing.",
    )


def winners(searches: tuple[Search, ...], metric_name: str) -> Table:
    """Return the best trial of each arm."""
    rows = (
        (
            s.arm,
            text.NOTHING if s.best_trial is None else str(s.best_trial),
            text.number(s.best_score, 4),
            ", ".join(f"{name} = {_value(value)}" for name, value in s.hyperparameters.items()),
            text.number(s.lr_basin_decades, 2),
            _trials(s),
            text.number(100 * s.divergence_rate, 2) + " %",
            text.seconds(s.training_s),
        )
        for s in searches
    )
    columns = ("Arm", "Best trial", f"Validation {metric_name}", "Hyperparameters", "Basin (decades)")
    return Table(
        "Tuning winners",
        (*columns, "Trials", "Diverged", "Training time"),
        tuple(rows),
        "The best trial of each search by its validation result at the end; a race takes its settings. Only trials "
        "that ran to their end can be best. Basin: decades of learning rate between the trials within 2 % of the best "
        "score, a lower bound with few trials. Training time: measured, of all trials of the arm.",
    )


def searched(searches: tuple[Search, ...]) -> Table:
    """Return the space that each arm's trials searched, where the results say it."""
    rows = (
        (s.arm, name, *_atom(atom, is_extended=name in s.extended), _best(s, name))
        for s in searches
        for name, atom in s.space.items()
    )
    return Table(
        "What was searched",
        ("Arm", "Hyperparameter", "From", "To", "Scale or choices", "Best"),
        tuple(rows),
        "All that the arm's trials were drawn from; what is not listed was not tuned. On an edge: within 5 % of the "
        "end of a range on its scale, or the first or last of three numbers or more; the optimum may lie outside. "
        "Extended: later trials searched beyond the range that the sweep began with; both are in it.",
    )


def calibration(frames: Frames) -> Table:
    """Return what a step costs, by arm, workers and batch size."""
    rows = (
        (
            row["arm"],
            text.number(row["num_workers"]),
            text.number(row["batch_size"]),
            text.seconds(row["step_s"]),
            f"{text.seconds(row['step_s_low'])} to {text.seconds(row['step_s_high'])}",
            text.seconds(row["plain_step_s"]),
            text.seconds(row["refresh_step_s"]),
            text.number(row["num_timed_steps"], 6),
            text.seconds(row["step_s"] * row["steps_per_epoch"]),
        )
        for row in calibrations(frames).to_dict("records")
    )
    columns = ("Arm", "Workers", "Batch size", "Step", "95 % interval", "Plain step", "Refresh step")
    note = "Measured alone on the machine, plain and refresh steps apart, combined by their frequency."
    return Table("Calibration", (*columns, "Steps timed", "Epoch"), tuple(rows), note)


def time_spent(frames: Frames) -> Table:
    """Return where the time of the runs went, by purpose and arm."""
    names = ("eval_time_s", "checkpoint_time_s", "warmup_time_s", "total_time_s")
    rows = (
        (
            row["arm"],
            row["purpose"],
            text.seconds(row["train_time_s"]),
            text.number(100 * row["data_share"], 2) + " %",
            *(text.seconds(row[name]) for name in names),
        )
        for row in times(frames).to_dict("records")
    )
    columns = ("Arm", "Purpose", "Training", "Of it waiting for data", "Evaluation", "Checkpoints", "Warm-up", "All")
    note = "Medians over the runs. Only training is charged to the budget; waiting for data is part of it."
    return Table("Where the time went", columns, tuple(rows), note)


def further_metrics(frames: Frames) -> Table:
    """Return the workload's further metrics at the end of the race, by arm."""
    found = frames.metrics[frames.metrics["name"].str.startswith("test_")]
    last = found.sort_values("step").drop_duplicates(["run_id", "name"], keep="last")
    ends = last.merge(race_runs(frames)[["run_id", "arm"]], on="run_id").groupby(["name", "arm"], as_index=False)
    rows = (
        (
            row["arm"],
            row["name"].removeprefix("test_").replace("_", " "),
            *(text.number(row[key], 4) for key in ("mean", "std")),
            f"{row['count']:.0f}",
        )
        for row in ends["value"].agg(["mean", "std", "count"]).to_dict("records")
    )
    note = "On the test split at the last evaluation, over the seeds of the race."
    return Table("Further metrics", ("Arm", "Metric", "Mean", "Standard deviation", "Runs"), tuple(rows), note)


def statuses(frames: Frames) -> Table:
    """Return how many runs ended how, by purpose and arm."""
    runs = frames.runs
    names = sorted(runs["status"].dropna().unique())
    counts = runs.groupby(["purpose", "arm"])["status"].value_counts().unstack(fill_value=0)
    rows = (
        (arm, purpose, *(str(row[name]) for name in names), str(int(row.sum())))
        for (purpose, arm), row in ((index, counts.loc[index]) for index in counts.index)
    )
    columns = ("Arm", "Purpose", *(name.replace("_", " ").capitalize() for name in names), "All")
    return Table("Runs by status", columns, tuple(rows))


def _seeds(comparison: Comparison) -> str:
    """Return the seeds that a pair would need."""
    return text.NOTHING if comparison.seeds_needed is None else f"{comparison.seeds_needed:,}"


def _sources(result: Race) -> str:
    """Return what the names of the entries say, where an arm has several."""
    meanings = {
        "default": "“(default)”: with the optimizer's own default values, not tuned",
        "transferred": "“(transferred)”: with the winner of the sweep on another workload",
        "placebo": "“(placebo)”: SGD by the same steps without the curvature",
        "control": "“(control)”: the same arm once more",
    }
    found = [meaning for source, meaning in meanings.items() if source in {s.source for s in result.standings}]
    return f"{'; '.join(found)}; else with the winner of the arm's own sweep here. " if found else ""


def _tuning(standing: Standing) -> str:
    """Return the sweep behind an entry of the race."""
    if not math.isfinite(standing.num_tuning_trials):
        return text.NOTHING
    if not standing.num_tuning_trials:
        return "nothing"
    return f"{text.count(int(standing.num_tuning_trials), 'trial')}, {text.seconds(standing.tuning_time_s)}"


def _trials(search: Search) -> str:
    """Return how many trials an arm had, and how many of them did not run to their end."""
    short = {"lost": search.num_lost, "stopped early": search.num_pruned}
    items = ", ".join(f"{number} {how}" for how, number in short.items() if number)
    return f"{search.num_trials} ({items})" if items else str(search.num_trials)


def _atom(atom: Mapping[str, Any], *, is_extended: bool) -> tuple[str, str, str]:
    """Return the ends of a hyperparameter's space and its scale, or its choices."""
    if "choices" in atom:
        return text.NOTHING, text.NOTHING, ", ".join(map(_value, atom["choices"]))
    scale = "logarithmic" if atom["log"] else "linear"
    return _value(atom["low"]), _value(atom["high"]), f"{scale}, extended" if is_extended else scale


def _best(search: Search, name: str) -> str:
    """Return the best value of a hyperparameter, and on which edge of the space it lies."""
    if name not in search.hyperparameters:
        return text.NOTHING
    edge = {"low": " (on the lower edge)", "high": " (on the upper edge)"}.get(search.edges.get(name, ""), "")
    return _value(search.hyperparameters[name]) + edge


def _value(value: Any) -> str:
    """Return a hyperparameter's value."""
    return text.number(value) if isinstance(value, float) else str(value)
