"""The plain-language summary: who won and whether that is resolved, what it cost, what to distrust.

A winner needs to be resolved against every other arm that finished all its race runs; else there is none.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports import text
from reports.answers.placebo import Gain, gains
from reports.costs import costs
from reports.distrust import cautions
from reports.frames import Frames, is_tuning_only, metric_of
from reports.race import Race, race, time_to_target, verdict
from reports.stats import Comparison
from reports.sweep import Search, sweep
from reports.trust import Stamp

MAX_LINES = 6  # rivals that get a line each; more share one
MAX_FASTEST = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader should know before the figures.

    Args:
        winner: The arm that won, None if no arm is resolved against all others.
        headline: One or two sentences.
        results: Who won by how much, loss and time to the target.
        costs: Of the search and what it bought, the race and an epoch.
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
    return summary_of(frames, race(frames), sweep(frames), planned)


def summary_of(
    frames: Frames,
    result: Race,
    searches: tuple[Search, ...],
    planned: int | None = None,
    checks: Sequence[Stamp] | None = None,
) -> Summary:
    """Return the summary of runs whose race and searches are known.

    Args:
        frames: Prepared frames of one workload.
        result: Its race.
        searches: Its searches.
        planned: How many runs were planned, where the caller knows.
        checks: Of the times of the whole study; by default, of these frames.

    Returns:
        The summary.
    """
    winner = find_winner(result)
    return Summary(
        winner,
        _tuning_headline(frames, searches) if is_tuning_only(frames) else _headline(result, winner),
        (*_results(result), *map(_curvature, (gain for gain in gains(frames) if gain.placebo))),
        tuple(costs(frames, result, searches)),
        tuple(cautions(frames, result, searches, planned, checks)),
    )


def find_winner(result: Race) -> str | None:
    """Return the arm that is resolved, and better, against every other arm without lost runs; None if there is none."""
    if len(result.complete) < 2:
        return None
    return None if _unbeaten(result) else result.complete[0].arm


def _against_leader(result: Race) -> list[Comparison]:
    """Return the leader's comparisons with the other arms that lost no run."""
    complete = {standing.arm for standing in result.complete}
    return [c for c in result.comparisons if c.first == result.complete[0].arm and c.second in complete]


def _unbeaten(result: Race) -> list[str]:
    """Return the arms against which the leader is not resolved to be better."""
    sign = result.metric.sign
    return [c.second for c in _against_leader(result) if not (c.resolved and sign * c.difference > 0)]


def _tuning_headline(frames: Frames, searches: tuple[Search, ...]) -> str:
    """Return the headline where arms were tuned and none raced; it names no winner."""
    metric = metric_of(frames)
    found = [search for search in searches if math.isfinite(search.best_score)]
    if not found:
        return "Tuned, not raced: no trial ran to its end."
    best = max(found, key=lambda search: metric.sign * search.best_score)
    score = f"validation {metric.name} {text.number(best.best_score, 4)}"
    return (
        f"Tuned, not raced: the best trial of all is one of {best.arm} ({score}). Single trials, on the split that "
        "selected them, do not rank arms."
    )


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
        lost = " that lost no run" if len(result.complete) < len(result.competitors) else ""
        return f"{winner} wins: {score}, resolved against {against}{lost}.{shortfall}"
    if not others:
        reason = (
            "is the only arm in the race" if len(result.competitors) == 1 else "is the only arm that lost no race run"
        )
        return f"No winner: {leader.arm} {reason}, so there is nothing to test it against ({score}).{shortfall}"
    turned = [c.second for c in _against_leader(result) if c.resolved and result.metric.sign * c.difference < 0]
    doubt = [arm for arm in _unbeaten(result) if arm not in turned]
    reasons = [f"noise could explain its lead over {text.names(doubt, 'arm')}"] if doubt else []
    reasons += [f"it is resolved to be worse than {text.names(turned, 'arm')} on their common seeds"] if turned else []
    start = "No winner: not resolved." if doubt else "No winner: seeds are missing."
    return f"{start} {leader.arm} has the best {score}, but {text.listing(reasons)}.{shortfall}"


def _results(result: Race) -> Iterator[str]:
    """Yield what the race says beyond the headline."""
    if result.complete:
        pairs = _against_leader(result)
        if len(pairs) <= MAX_LINES:
            yield from (_comparison_line(pair, result) for pair in pairs)
        else:
            yield from _grouped_lines(pairs, result)
    for standing in result.standings:
        if standing.num_lost:
            yield (
                f"{standing.arm} lost {standing.num_lost} of {text.count(standing.num_runs, 'race run')}: it stands "
                "below the arms that lost fewer and is not tested, since its remaining seeds are a selection."
            )
    yield from _loss_line(result)
    yield from _time_line(result)
    for control in result.controls:
        yield f"Control: {control.first} against itself, raced twice: {_seen(control, result)}."


def _curvature(gain: Gain) -> str:
    """Return how much of an arm's gain over SGD is left when its placebo's is taken away."""
    assert gain.over_placebo is not None
    over_sgd, over_placebo = (
        f"{text.difference(each.estimate.mean)} ({each.verdict})" for each in (gain.over_baseline, gain.over_placebo)
    )
    line = f"{gain.arm}, gain in the test metric: {over_sgd} over tuned SGD; {over_placebo} over its placebo, SGD by "
    line += "the same steps without the curvature"
    return line + (f": {gain.share_left:.0%} of the gain is left." if math.isfinite(gain.share_left) else ".")


def _seen(comparison: Comparison, result: Race) -> str:
    """Return a verdict with the difference seen."""
    return f"{verdict(comparison)} ({text.difference(comparison.difference)} in mean test {result.metric.name})"


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


def _grouped_lines(pairs: list[Comparison], result: Race) -> Iterator[str]:
    """Yield how the leader stands against many arms: a line a verdict."""
    for outcome in dict.fromkeys(map(verdict, pairs)):
        group = [pair for pair in pairs if verdict(pair) == outcome]
        seen = ", ".join(f"{pair.second} {text.difference(pair.difference)}" for pair in group)
        number = "each" if len(group) == len(pairs) else str(len(group))
        line = f"{group[0].first} against {number} of {text.count(len(pairs), 'other arm')}: {outcome}. Its mean test "
        line += f"{result.metric.name} minus theirs: {seen}."
        sizes = [pair.detectable for pair in group if math.isfinite(pair.detectable)]
        if outcome == "not resolved" and sizes:
            low, high = (text.number(size, 2) for size in (min(sizes), max(sizes)))
            line += f" The smallest differences that these seeds could have resolved are {low} to {high}, by pair."
        yield line


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
    words = {standing.arm: _of_the_loss(best, pairs[standing.arm]) for standing in known[1:]}
    for outcome in dict.fromkeys(words.values()):
        rivals = [arm for arm, word in words.items() if word == outcome]
        line += f"; {outcome} against {text.names(rivals, 'arm')}"
    yield line + "."


def _of_the_loss(best: str, pair: Comparison) -> str:
    """Return whether the arm with the lowest mean loss is resolved to have a lower one than another."""
    is_lower = pair.difference < 0 if pair.first == best else pair.difference > 0
    return verdict(pair) if is_lower or not pair.resolved else "resolved to be higher, on the common seeds,"


def _time_line(result: Race) -> Iterator[str]:
    """Yield how long each arm took to the target."""
    if not math.isfinite(result.metric.target) or not result.standings:
        return
    shown, start = result.standings, f"Seconds to validation {result.metric.name} {result.metric.target:g} (not tested"
    if len(shown) > MAX_LINES:
        reached = [s for s in shown if s.num_reached == s.num_runs]
        if not reached:
            yield f"No arm reached validation {result.metric.name} {result.metric.target:g} in every run."
            return
        shown = tuple(sorted(reached, key=lambda s: s.time_to_target_s.mean)[:MAX_FASTEST])
        start += f"; the fastest of {text.count(len(reached), 'arm')} that reached it in every run"
    yield f"{start}): {'; '.join(f'{s.arm} {time_to_target(s)}' for s in shown)}."
