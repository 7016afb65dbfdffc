"""What to distrust in a study: one check a function, each yielding sentences for the summary."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from reports import stats, text
from reports.frames import LOST, Frames, race_runs, read_json, tune_runs
from reports.race import Race
from reports.sweep import Search
from reports.trust import Stamp, stamps

SEEDS_FOR_CLAIMS = 10
MAX_CALIBRATION_ERROR = 0.10  # of the measured time, relative to the calibrated
CONSTANT_SPREAD = 1.1  # 95th over 5th percentile of the preconditioner
MAX_SENTENCES = 3  # of one kind, an arm each; more arms share one
MANY_PAIRS = 15  # of arms, tested together: those of six arms
MIN_LEVELS = 4  # distinct values of the metric, to call their smallest gap its grain


def cautions(
    frames: Frames,
    result: Race,
    searches: tuple[Search, ...],
    planned: int | None = None,
    checks: Sequence[Stamp] | None = None,
) -> Iterator[str]:
    """Yield everything in these runs that a reader should distrust, the gravest first.

    Args:
        frames: Prepared frames of one workload.
        result: Its race.
        searches: Its searches.
        planned: How many runs were planned, where the caller knows.
        checks: What :func:`reports.trust.stamps` found in the whole study; by default, what it finds in these frames.

    Yields:
        One sentence or two each.
    """
    yield from _missing(frames, planned)
    yield from _controls(result)
    yield from _below_target(result)
    yield from _lost(frames)
    yield from _mixed_settings(frames)
    yield from _seeds(result)
    yield from _grain(frames)
    yield from _edges(searches)
    yield from _pruning(frames, searches)
    yield from _constant_preconditioner(frames)
    yield from _fallbacks(frames)
    yield from _times(stamps(frames) if checks is None else checks)
    yield from _calibration_error(frames)
    yield from _machines(frames)


def _missing(frames: Frames, planned: int | None) -> Iterator[str]:
    """Yield how many planned runs are not there."""
    found = len(frames.runs)
    if planned is not None and found < planned:
        yield f"{planned - found} of {text.count(planned, 'planned run')} are missing: the study is not finished."


def _controls(result: Race) -> Iterator[str]:
    """Yield the arms that differ from themselves."""
    for pair in result.controls:
        if pair.resolved:
            yield (
                f"{pair.first} raced twice, and the two are told apart ({text.difference(pair.difference)}, "
                f"{text.p_value(pair.p_holm)}): something else than the optimizer acts on these runs."
            )


def _below_target(result: Race) -> Iterator[str]:
    """Yield the arms whose mean misses the target."""
    metric = result.metric
    short = [s for s in result.competitors if s.metric.n and not metric.meets(s.metric.mean)]
    if len(short) > MAX_SENTENCES:
        scores = ", ".join(f"{standing.arm} {text.number(standing.metric.mean)}" for standing in short)
        num_arms = text.count(len(result.competitors), "arm")
        yield f"{len(short)} of {num_arms} did not reach target {metric.target:g} in mean test {metric.name}: {scores}."
        return
    for standing in short:
        score = text.estimate(standing.metric)
        yield f"{standing.arm} did not reach target {metric.target:g}: its mean test {metric.name} is {score}."


def _lost(frames: Frames) -> Iterator[str]:
    """Yield how many runs of which arms were lost, by purpose and status."""
    for purpose, runs in frames.runs.groupby("purpose"):
        for status in LOST:
            arms = runs.loc[runs["status"] == status, "arm"].value_counts()
            if len(arms):
                by_arm = text.listing(f"{arm} {count}" for arm, count in arms.items())
                was = {"diverged": "diverged", "out_of_memory": "ran out of memory", "failed": "failed"}[status]
                yield f"{arms.sum()} of {text.count(len(runs), f'{purpose} run')} {was}: {by_arm}."


def _mixed_settings(frames: Frames) -> Iterator[str]:
    """Yield settings that differ between the runs that are averaged, or that make them optimistic."""
    runs = race_runs(frames)
    for column in ("num_workers", "num_threads", "batch_size", "budget", "splits", "schedule"):
        values = runs[column].dropna().unique()
        if len(values) > 1:
            names = text.listing(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values))
            yield f"The race mixes {column} {names}: means over its runs are not of one experiment."
    if (runs["splits"] == "paper").any():
        yield "Race runs trained on all data and were selected on the test split, as in the paper: optimistic."


def _seeds(result: Race) -> Iterator[str]:
    """Yield that few seeds, or different ones, carry the result."""
    counts = {standing.arm: standing.num_runs for standing in result.competitors}
    if not counts:
        return
    fewest = min(counts.values())
    if fewest < SEEDS_FOR_CLAIMS:
        yield (
            f"Fewer than {SEEDS_FOR_CLAIMS} seeds an arm ({fewest}): intervals assume normal seeds, and only large "
            "differences can be resolved."
        )
    tested = sum(math.isfinite(pair.p_value) for pair in result.comparisons)
    if tested > MANY_PAIRS:
        yield (
            f"{tested} pairs of arms are tested together, so that Holm's correction resolves a first pair only at "
            f"p < {text.number(stats.ALPHA / tested, 2)}: a study of fewer arms, or of more seeds, resolves more."
        )
    if fewest < max(counts.values()):
        yield f"Arms have different numbers of race runs ({text.listing(f'{a} {n}' for a, n in counts.items())})."


def _grain(frames: Frames) -> Iterator[str]:
    """Yield the step in which the test metric moves, if its values lie on a grid."""
    runs = race_runs(frames)
    epochs = frames.epochs.loc[frames.epochs["run_id"].isin(runs["run_id"]), "test_metric"]
    levels = np.unique(np.round(pd.concat([runs["test_metric"], epochs]).dropna(), 9))
    if len(levels) < MIN_LEVELS:
        return
    gap = float(np.diff(levels).min())
    steps = levels / gap
    if gap > 1e-4 and np.allclose(steps, np.round(steps), atol=1e-3):
        yield (
            f"The test metric moves in steps of {text.number(gap, 2)} (one sample of the test split, it seems): "
            "read test loss beside it."
        )


def _edges(searches: tuple[Search, ...]) -> Iterator[str]:
    """Yield the best points that lie on an edge of what was searched, then what there is to do."""
    found = [search for search in searches if search.edges]
    for search in found:
        where = text.listing(f"the best {_edge(search, name, end)}" for name, end in search.edges.items())
        yield f"{search.arm}: {where}: the optimum may lie outside."
    kinds = {"choices" in search.space[name] for search in found for name in search.edges}
    if False in kinds:
        again = "again " if any(search.extended for search in found) else ""
        more = "A higher tune.max_extensions" if again else "`--set tune.max_extensions=1`"
        yield f"{more} lets a sweep go on {again}beyond the edges of its ranges, where the optimizer takes such values."
    if True in kinds:
        yield "A set of values is not extended by itself: add values beyond its end."


def _edge(search: Search, name: str, end: str) -> str:
    """Return on which edge of what the best value of a hyperparameter lies."""
    atom, value = search.space[name], text.number(float(search.hyperparameters[name]))
    if "choices" in atom:
        which = {"low": "smallest", "high": "largest"}[end]
        return f"{name} ({value}) is the {which} of the values searched ({text.listing(map(str, atom['choices']))})"
    which = {"low": "lower", "high": "upper"}[end]
    low, high = (text.number(atom[bound]) for bound in ("low", "high"))
    return f"{name} ({value}) lies on the {which} edge of the space searched ({low} to {high})"


def _pruning(frames: Frames, searches: tuple[Search, ...]) -> Iterator[str]:
    """Yield that trials could be stopped early, and how many of which arms were."""
    pruners = sorted(tune_runs(frames)["pruner"].dropna().unique())
    stopped = [f"{s.arm} {s.num_pruned} of {s.num_trials}" for s in searches if s.num_pruned]
    if stopped:
        yield (
            f"The pruner {' or '.join(pruners) or '(not named)'} stopped trials early: {text.listing(stopped)}. An "
            "early loss misleads where the learning rate still falls, so a good trial may be among them; the tuning "
            "time of these arms is shorter for it."
        )
    elif pruners:
        yield f"The pruner {' or '.join(pruners)} could stop trials early; it stopped none."


def _constant_preconditioner(frames: Frames) -> Iterator[str]:
    """Yield the arms whose preconditioner had become a constant by the end of the race."""
    spread = frames.metrics[frames.metrics["name"] == "preconditioner_spread_p95_p05"]
    last = spread.sort_values("step").drop_duplicates("run_id", keep="last")
    ends = last.merge(race_runs(frames)[["run_id", "arm"]], on="run_id").groupby("arm")["value"].median()
    for arm, value in ends[ends < CONSTANT_SPREAD].items():
        yield (
            f"{arm}: at the end 90 % of its preconditioner lies within a factor of {value:.2f}. That is all but a "
            "constant: the arm ran as SGD with momentum, and its result is no evidence for curvature."
        )


def _fallbacks(frames: Frames) -> Iterator[str]:
    """Yield how often the linear algebra of arms failed in the race, by kind of what was done instead."""
    counts = frames.metrics[frames.metrics["name"].str.startswith("fallbacks/")]
    last = counts.sort_values("step").drop_duplicates(["run_id", "name"], keep="last")
    raced = last.merge(race_runs(frames)[["run_id", "arm"]], on="run_id")
    totals = raced.groupby(["arm", "name"], as_index=False)["value"].sum()
    kinds = [
        f"{row.arm} {str(row.name).removeprefix('fallbacks/').replace('_', ' ')} {row.value:.0f} times"
        for row in totals[totals["value"] > 0].itertuples(index=False)
    ]
    if kinds:
        yield f"Linear algebra failed in the race, and something else was done: {text.listing(kinds)}, over all seeds."


def _times(checks: Sequence[Stamp]) -> Iterator[str]:
    """Yield the checks of the times that failed, in the words of the table of trust."""
    for stamp in checks:
        if stamp.is_ok is False:
            yield f"The times failed a check, {stamp.name}: {stamp.text}"


def _calibration_error(frames: Frames) -> Iterator[str]:
    """Yield the arms whose measured time differs from the calibrated one that they were charged."""
    runs = frames.runs[(frames.runs["budget_time_s"] > 0) & frames.runs["purpose"].isin(("tune", "race"))]
    ratios = (runs["train_time_s"] / runs["budget_time_s"]).groupby([runs["arm"], runs["purpose"]]).median()
    found = ratios[(ratios - 1).abs() > MAX_CALIBRATION_ERROR]
    if len(found):
        items = text.listing(f"{key[0]} {ratio:.2f} in {key[1]} runs" for key, ratio in found.items())  # type: ignore[index]
        yield (
            f"Calibration error: the measured time over the calibrated one that was charged is {items}. The budget "
            "counts calibrated steps, so arms stay comparable only if all are off alike."
        )


def _machines(frames: Frames) -> Iterator[str]:
    """Yield that runs come from several machines or versions of the code."""
    runs = frames.runs
    commits = pd.Series(
        [read_json(json).get("commit") for json in runs["environment"].dropna().unique()], dtype="object"
    )
    for noun, values in (("host", runs["hostname"]), ("kind of hardware", runs["hardware"]), ("commit", commits)):
        names = sorted(map(str, values.dropna().unique()))
        if len(names) > 1:
            plural = noun.replace("kind", "kinds") if " " in noun else f"{noun}s"
            yield f"Runs come from {len(names)} {plural}: {text.listing(names)}."
