"""What a study cost: its search and what that bought, the race, an epoch."""

import math
from collections.abc import Iterator

from reports import text
from reports.frames import Frames, calibrations, race_runs, tune_runs
from reports.race import Race, verdict
from reports.sweep import Search

# Behind the name of an arm, as the race has it: no suffix is the winner of the arm's own sweep.
GAINS = (
    ("What tuning bought", "tuned minus default", "", " (default)"),
    ("What the winner of another workload bought", "transferred minus default", " (transferred)", " (default)"),
    ("What tuning here bought beyond that winner", "tuned minus transferred", "", " (transferred)"),
)


def costs(frames: Frames, result: Race, searches: tuple[Search, ...]) -> Iterator[str]:
    """Yield what search, race and an epoch cost.

    Args:
        frames: Prepared frames of one workload.
        result: Its race.
        searches: Its searches.

    Yields:
        A sentence each.
    """
    yield from _protocol(frames, searches)
    yield from _search(searches)
    yield from gains(result)
    yield from _race(frames)
    yield from _epochs(frames)


def gains(result: Race) -> Iterator[str]:
    """Yield what tuning bought: the pairs of one arm's entries, as the table of all pairs has them.

    Args:
        result: The race.

    Yields:
        A sentence for each two sources that an arm raced with.
    """
    pairs = {(c.first, c.second): (c, 1) for c in result.comparisons}
    pairs |= {(c.second, c.first): (c, -1) for c in result.comparisons}
    bases = sorted({standing.base for standing in result.standings if standing.source in {"default", "transferred"}})
    for what, minus, more, less in GAINS:
        found = [(base, *pairs[key]) for base in bases if (key := (base + more, base + less)) in pairs]
        items = "; ".join(
            f"{base} {text.difference(sign * c.difference)} ({_outcome(verdict(c), c.p_holm)})"
            for base, c, sign in found
        )
        if items:
            metric = result.metric
            yield f"{what} (mean test {metric.name}, {minus}, over common seeds; {metric.good}): {items}."


def _outcome(verdict: str, p_holm: float) -> str:
    """Return a verdict with its p-value, where there is one."""
    return f"{verdict}, {text.p_value(p_holm)}" if math.isfinite(p_holm) else verdict


def _protocol(frames: Frames, searches: tuple[Search, ...]) -> Iterator[str]:
    """Yield what each arm was given to be tuned with."""
    trials = tune_runs(frames)
    if trials.empty:
        return
    counts = trials["arm"].value_counts()
    fewest, most = int(counts.min()), int(counts.max())
    number = text.count(most, "trial") if fewest == most else f"{fewest} to {most} trials"
    named = {name: sorted(trials[name].dropna().unique()) for name in ("budget", "sampler", "pruner")}
    parts = [f"{number} for each arm"]
    parts += [f"budget of a trial {' or '.join(named['budget'])}"] if named["budget"] else []
    if named["sampler"]:
        parts += [f"proposed by {' or '.join(named['sampler'])}"]
        parts += [f"{' or '.join(named['pruner'])} could stop one early" if named["pruner"] else "no pruner"]
    if any(search.extended for search in searches):
        parts += ["the sweep extended itself beyond the space that it began with"]
    yield f"Protocol of the search: {'; '.join(parts)}."


def _search(searches: tuple[Search, ...]) -> Iterator[str]:
    """Yield how long each arm's search trained."""
    if searches:
        items = (f"{s.arm} {text.seconds(s.training_s)} in {text.count(s.num_trials, 'trial')}" for s in searches)
        yield f"Search, measured training time: {'; '.join(items)}."


def _race(frames: Frames) -> Iterator[str]:
    """Yield how long the race trained."""
    runs = race_runs(frames)
    spent = runs["train_time_s"].sum(min_count=1)
    if math.isfinite(spent):
        yield f"Race, measured training time: {text.seconds(spent)} in {text.count(len(runs), 'run')}."


def _epochs(frames: Frames) -> Iterator[str]:
    """Yield what an epoch costs, as a multiple of the cheapest arm's."""
    measured = calibrations(frames)
    for workers in sorted(measured["num_workers"].dropna().unique()):
        rows = measured[measured["num_workers"] == workers]
        steps = rows.groupby("arm")["step_s"].min().sort_values()
        if len(steps) > 1:
            ratios = ", ".join(f"{arm} {ratio:.2f}" for arm, ratio in (steps / steps.iloc[0]).items())
            yield f"Cost of an epoch on {text.count(int(workers), 'worker')}, relative to the cheapest arm: {ratios}."
