"""The plain-language summary: who won and whether that is resolved, what it cost, what to distrust.

A winner needs to be resolved against every other arm that finished all its race runs; else there is none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from reports import text
from reports.distrust import cautions
from reports.frames import Frames, calibrations, race_runs
from reports.race import Race, Standing, race
from reports.stats import Comparison
from reports.sweep import Search, sweep


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader should know before the figures.

    Args:
        winner: The arm that won, None if no arm is resolved against all others.
        headline: One or two sentences.
        results: Who won by how much, loss and time to the target.
        costs: Of the search, the race and an epoch.
        cautions: What to distrust.
    """

    winner: str | None
    headline: str
    results: tuple[str, ...]
    costs: tuple[str, ...]
    cautions: tuple[str, ...]


def summarize(frames: Frames, *, planned: int | None = None) -> Summary:
    """Return the summary of one workload's runs.

    Args:
        frames: Prepared frames of one workload.
        planned: How many runs were planned, where the caller knows.

    Returns:
        The summary; with no runs at all it says so.
    """
    result, searches = race(frames), sweep(frames)
    winner = find_winner(result)
    return Summary(
        winner,
        _headline(result, winner),
        tuple(_results(result)),
        tuple(_costs(frames, searches)),
        tuple(cautions(frames, result, searches, planned)),
    )


def find_winner(result: Race) -> str | None:
    """Return the arm that is resolved, and better, against every other arm without lost runs; None if there is none."""
    if len(result.complete) < 2:
        return None
    return None if _unbeaten(result) else result.complete[0].arm


def verdict(comparison: Comparison) -> str:
    """Return whether a pair is resolved, in the words of the tables."""
    if comparison.excluded:
        return "not tested: lost runs"
    if not math.isfinite(comparison.p_holm):
        return "not tested: fewer than two common seeds"
    return "resolved" if comparison.resolved else "not resolved"


def _against_leader(result: Race) -> list[Comparison]:
    """Return the leader's comparisons with the other arms that lost no run."""
    complete = {standing.arm for standing in result.complete}
    return [c for c in result.comparisons if c.first == result.complete[0].arm and c.second in complete]


def _unbeaten(result: Race) -> list[str]:
    """Return the arms against which the leader is not resolved to be better."""
    sign = result.metric.sign
    return [c.second for c in _against_leader(result) if not (c.resolved and sign * c.difference > 0)]


def _headline(result: Race, winner: str | None) -> str:
    """Return the headline."""
    if not result.standings:
        return "No winner: there are no race runs yet."
    if not result.complete:
        return "No winner: every arm lost race runs (diverged, out of memory or failed)."
    leader, metric = result.complete[0], result.metric
    score = f"mean test {metric.name} {text.estimate(leader.metric)}"
    shortfall = "" if metric.meets(leader.metric.mean) else f" It did not reach target {metric.target:g}."
    others = len(result.complete) - 1
    if winner:
        against = "the other arm" if others == 1 else f"each of the {others} other arms"
        lost = " that lost no run" if len(result.complete) < len(result.standings) else ""
        return f"{winner} wins: {score}, resolved against {against}{lost}.{shortfall}"
    if not others:
        reason = (
            "is the only arm in the race" if len(result.standings) == 1 else "is the only arm that lost no race run"
        )
        return f"No winner: {leader.arm} {reason}, so there is nothing to test it against ({score}).{shortfall}"
    return (
        f"No winner: not resolved. {leader.arm} has the best {score}, but noise could explain its lead over "
        f"{text.listing(_unbeaten(result))}.{shortfall}"
    )


def _results(result: Race) -> Iterator[str]:
    """Yield what the race says beyond the headline."""
    if result.complete:
        for comparison in _against_leader(result):
            yield _comparison_line(comparison, result)
    for standing in result.standings:
        if standing.num_lost:
            yield (
                f"{standing.arm} lost {standing.num_lost} of {text.count(standing.num_runs, 'race run')}: it stands "
                "below the arms that lost fewer and is not tested, since its remaining seeds are a selection."
            )
    yield from _loss_line(result)
    yield from _time_line(result)


def _comparison_line(comparison: Comparison, result: Race) -> str:
    """Return how the leader stands against one arm."""
    start = f"{comparison.first} against {comparison.second}: {verdict(comparison)}"
    seen = f"{text.difference(comparison.difference)} in mean test {result.metric.name}"
    if not math.isfinite(comparison.p_holm):
        return f"{start} ({seen})."
    line = f"{start}, {seen} ({text.p_value(comparison.p_holm)} after Holm's correction)."
    if comparison.resolved:
        return line
    if math.isfinite(comparison.detectable):
        smallest = text.number(comparison.detectable, 2)
        line += f" The smallest difference that {comparison.n} seeds could have resolved is {smallest}."
    if comparison.seeds_needed:
        line += f" The seen difference would need {text.count(comparison.seeds_needed, 'seed')}."
    return line


def _loss_line(result: Race) -> Iterator[str]:
    """Yield which arm has the lowest test loss, and against whom that is resolved."""
    known = sorted((s for s in result.complete if s.loss.n), key=lambda s: s.loss.mean)
    if len(known) < 2:
        return
    best = known[0].arm
    pairs = {
        c.second if c.first == best else c.first: c for c in result.loss_comparisons if best in {c.first, c.second}
    }
    line = f"Lowest mean test loss: {best} with {text.estimate(known[0].loss)}"
    for outcome, wanted in (("resolved", True), ("not resolved", False)):
        rivals = [standing.arm for standing in known[1:] if pairs[standing.arm].resolved is wanted]
        line += f"; {outcome} against {text.listing(rivals)}" if rivals else ""
    yield line + "."


def _time_line(result: Race) -> Iterator[str]:
    """Yield how long each arm took to the target."""
    if not math.isfinite(result.metric.target) or not result.standings:
        return
    items = "; ".join(f"{s.arm} {time_to_target(s)}" for s in result.standings)
    yield f"Seconds to validation {result.metric.name} {result.metric.target:g} (not tested): {items}."


def time_to_target(standing: Standing) -> str:
    """Return the time to the target; without a mean where a run did not reach it, since that mean would flatter."""
    if standing.num_reached == standing.num_runs:
        return f"{text.estimate(standing.time_to_target_s)} s"
    return f"reached in {standing.num_reached} of {text.count(standing.num_runs, 'run')}"


def _costs(frames: Frames, searches: tuple[Search, ...]) -> Iterator[str]:
    """Yield what search, race and an epoch cost."""
    if searches:
        items = "; ".join(
            f"{s.arm} {text.seconds(s.training_s)} in {text.count(s.num_trials, 'trial')}" for s in searches
        )
        yield f"Search, training time: {items}."
    runs = race_runs(frames)
    if runs["budget_time_s"].notna().any():
        yield f"Race, training time: {text.seconds(runs['budget_time_s'].sum())} in {text.count(len(runs), 'run')}."
    measured = calibrations(frames)
    for workers in sorted(measured["num_workers"].dropna().unique()):
        rows = measured[measured["num_workers"] == workers]
        steps = rows.groupby("arm")["step_s"].min().sort_values()
        if len(steps) > 1:
            ratios = ", ".join(f"{arm} {ratio:.2f}" for arm, ratio in (steps / steps.iloc[0]).items())
            yield f"Cost of an epoch on {text.count(int(workers), 'worker')}, relative to the cheapest arm: {ratios}."
