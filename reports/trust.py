"""Whether the times of a study can be believed: one check a function, each with its bound, over prepared frames.

A figure of times that fails a check is marked and not ranked. What cannot be judged, for lack of a control or of seeds,
fails nothing and says so.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import stats, text
from reports.frames import LOST, Frames, base_arm, remembered
from suite.results import INPUT_BOUND

MAX_GAP = 0.05  # between an arm and itself
MAX_DRIFT = 0.10  # of the reference arm's step, from the first third of the study to the last
MAX_LOAD = 1.5  # processes a core: the suite itself fills the cores, and no more
MAX_OVERSHOOT = 0.02  # of the budget
MIN_RUNS = 3  # of the reference arm, to see a drift

TIMED = ("race", "single", "calibrate", "profile")  # purposes of runs whose time is measured

_CONTROL = re.compile(r" \(control\)$")
_CORES = re.compile(r"(\d+) cores")
_CONDITIONS = ["workload", "case", "num_workers", "num_threads", "batch_size"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a check found.

    Args:
        name: Of the check.
        is_ok: Whether the times passed; ``None`` where that cannot be judged.
        text: What was measured, one sentence.
        value: The farthest that was measured, without its sign; NaN where nothing was judged by a number.
        bound: What it may be at most, in the same unit: processes a core for ``load``, else a fraction. A check can
            fail below it for another reason, which its text gives: a control that is told apart, a restless machine.
    """

    name: str
    is_ok: bool | None
    text: str
    value: float = math.nan
    bound: float = math.nan


@remembered
def stamps(frames: Frames) -> list[Stamp]:
    """Check the times of a study, or of a part of it.

    Args:
        frames: Prepared frames.

    Returns:
        A stamp a check.
    """
    return [control(frames), drift(frames), load(frames), overshoot(frames), data_share(frames)]


def is_trusted(frames: Frames) -> bool:
    """Return whether no check of these times failed."""
    return all(stamp.is_ok is not False for stamp in stamps(frames))


def is_control(arm: str) -> bool:
    """Return whether an entry of a race is an arm once more."""
    return _CONTROL.search(arm) is not None


def step_times(frames: Frames) -> pd.DataFrame:
    """Return the race and single runs that trained to their end, with the measured ``seconds`` of a step of each."""
    runs = frames.runs
    is_whole = runs["purpose"].isin(("race", "single")) & ~runs["status"].isin(LOST)
    kept = runs[is_whole & (runs["num_steps"] > 0) & (runs["train_time_s"] > 0)]
    return kept.assign(seconds=kept["train_time_s"] / kept["num_steps"])


def control(frames: Frames) -> Stamp:
    """Compare each arm that raced twice with itself: a paired t-test of its step times over the seeds.

    Args:
        frames: Prepared frames.

    Returns:
        Failed where the two are told apart, corrected over the conditions, or differ by more than 5 %.
    """
    pairs = list(_twice(step_times(frames)))
    if not pairs:
        return Stamp("control", None, "No arm raced twice: nothing says how far an arm is from itself.")
    p_values = stats.holm([stats.paired_p_value(once_more - once) for _, once, once_more in pairs])
    gaps = [stats.estimate(once_more / once - 1) for _, once, once_more in pairs]
    is_apart = [p < stats.ALPHA or abs(gap.mean) > MAX_GAP for p, gap in zip(p_values, gaps, strict=True)]
    worst = max(range(len(pairs)), key=lambda index: (is_apart[index], abs(gaps[index].mean)))
    name, p, gap = pairs[worst][0], p_values[worst], gaps[worst]
    interval = f", 95 % interval {gap.low:+.1%} to {gap.high:+.1%}" if math.isfinite(gap.low) else ""
    others = f", the farthest of {len(pairs)} conditions" if len(pairs) > 1 else ""
    tested = (
        f"{text.p_value(p)}, {'resolved' if p < stats.ALPHA else 'not resolved'}" if math.isfinite(p) else "one seed"
    )
    is_judged = any(is_apart) or any(map(math.isfinite, p_values))
    return Stamp(
        "control",
        not any(is_apart) if is_judged else None,
        f"{name} against itself{others}: {gap.mean:+.1%} of its step{interval} ({tested}; "
        f"{text.count(gap.n, 'seed')}); the bound is {MAX_GAP:.0%}.",
        *((abs(gap.mean), MAX_GAP) if is_judged else ()),
    )


def drift(frames: Frames, reference: str | None = None) -> Stamp:
    """Compare the step times of one arm at the start of the study with those at its end.

    Args:
        frames: Prepared frames.
        reference: The arm; by default that of :func:`course`.

    Returns:
        Failed where the last third of the runs, by start, took 10 % more or less than the first.
    """
    found = course(frames, reference)
    if len(found) < MIN_RUNS:
        return Stamp("drift", None, "Too few runs of one arm, with the times at which they started, to see a drift.")
    first, last = (float(found.loc[found["third"] == third, "relative"].mean()) for third in ("first", "last"))
    change = last / first - 1
    return Stamp(
        "drift",
        abs(change) <= MAX_DRIFT,
        f"The step of {found['base'].iloc[0]} changed by {change:+.1%} from the first third of its {len(found)} runs "
        f"to the last; the bound is {MAX_DRIFT:.0%}.",
        abs(change),
        MAX_DRIFT,
    )


def course(frames: Frames, reference: str | None = None) -> pd.DataFrame:
    """Return the step times of one arm over the course of the study.

    Args:
        frames: Prepared frames.
        reference: The arm; by default the one that raced twice, else the one with the most runs.

    Returns:
        A row a run with a known start, in that order, those of its control too. Beside the columns of ``runs``: base
        (the arm), start, seconds (of a step), relative (to the median under the same conditions) and third
        (``first``, ``middle`` or ``last``).
    """
    runs = step_times(frames)
    base = runs["arm"].map(lambda arm: base_arm(arm) if is_control(arm) else arm)  # a placebo's steps are its own
    runs = runs.assign(base=base, start=pd.to_datetime(runs["started_at"], utc=True))
    arm = reference or _reference(runs)
    own = runs[(runs["base"] == arm) & runs["start"].notna()].sort_values("start", ignore_index=True)
    median = own.groupby(_CONDITIONS, dropna=False)["seconds"].transform("median")
    place, size = np.arange(len(own)), len(own) // 3
    third = np.select([place < size, place >= len(own) - size], ["first", "last"], "middle")
    return own.assign(relative=own["seconds"] / median, third=third)


def load(frames: Frames) -> Stamp:
    """Look for others on the machine.

    Args:
        frames: Prepared frames.

    Returns:
        Failed where a timed run started beside more processes than the suite itself would leave behind, or a
        measurement began before the machine was quiet.
    """
    runs = frames.runs[frames.runs["purpose"].isin(TIMED)]
    cores = runs["hardware"].astype("object").map(_cores).astype("float64")
    per_core = (runs["load_before"] / cores).dropna()
    is_quiet = runs["is_quiet"].dropna()
    num_busy, num_restless = int((per_core > MAX_LOAD).sum()), int((is_quiet == False).sum())  # noqa: E712
    if per_core.empty and is_quiet.empty:
        return Stamp("load", None, "Nothing says what else ran on the machine.")
    highest = f" (up to {per_core.max():.2g} processes a core; the bound is {MAX_LOAD:g})" if len(per_core) else ""
    started = f"{num_busy} of {text.count(len(per_core), 'timed run')} started on a busy machine{highest}"
    began = f"{num_restless} of {text.count(len(is_quiet), 'measurement')} began before it was quiet"
    return Stamp(
        "load",
        num_busy == num_restless == 0,
        f"{started}; {began}.",
        *((float(per_core.max()), MAX_LOAD) if len(per_core) else ()),
    )


def overshoot(frames: Frames) -> Stamp:
    """Check that the clock ended runs where it should.

    Args:
        frames: Prepared frames.

    Returns:
        Failed where a run with a live budget ended more than 2 % of it away; a calibrated one ends by its steps.
    """
    runs = frames.runs
    is_live = runs["budget"].astype("object").str.endswith("live", na=False)
    share = (runs["overshoot_s"] / runs["budget_seconds"])[is_live & (runs["budget_seconds"] > 0)].abs().dropna()
    if share.empty:
        return Stamp("overshoot", None, "No run was ended by the clock.")
    return Stamp(
        "overshoot",
        bool(share.max() <= MAX_OVERSHOOT),
        f"{text.count(len(share), 'run')} ended by the clock, at most {share.max():.1%} of the budget away; the bound "
        f"is {MAX_OVERSHOOT:.0%}.",
        float(share.max()),
        MAX_OVERSHOOT,
    )


def data_share(frames: Frames) -> Stamp:
    """Check that the times are of training, not of the loader.

    Args:
        frames: Prepared frames.

    Returns:
        Failed where an arm spent more than 10 % of its training time waiting for data, in the median over its runs
        under the same conditions.
    """
    runs = frames.runs[frames.runs["purpose"].isin(("race", "single")) & (frames.runs["train_time_s"] > 0)]
    runs = runs.assign(data_share=runs["data_time_s"] / runs["train_time_s"])
    spent = runs.groupby([*_CONDITIONS, "arm"], dropna=False)["data_share"].median().dropna().reset_index()
    if spent.empty:
        return Stamp("data", None, "Nothing says how long runs waited for data.")
    worst = spent.sort_values("data_share").iloc[-1]
    return Stamp(
        "data",
        bool(worst["data_share"] <= INPUT_BOUND),
        f"{worst['arm']} waited for data in {worst['data_share']:.1%} of its training time, more than any other arm; "
        f"the bound is {INPUT_BOUND:.0%}.",
        float(worst["data_share"]),
        INPUT_BOUND,
    )


def _twice(runs: pd.DataFrame) -> Iterator[tuple[str, "pd.Series[float]", "pd.Series[float]"]]:
    """Yield each arm that raced twice under the same conditions, with both its step times over the common seeds."""
    for _, group in runs.groupby(_CONDITIONS, dropna=False):
        seconds = group.pivot_table(index="seed", columns="arm", values="seconds", aggfunc="mean")
        for arm in filter(is_control, map(str, seconds.columns)):
            base = base_arm(arm)
            if base in seconds and len(common := seconds[[base, arm]].dropna()):
                yield base, common[base], common[arm]


def _reference(runs: pd.DataFrame) -> str | None:
    """Return the arm behind the controls, or else the one with the most runs."""
    controls = runs.loc[runs["arm"].map(is_control).astype(bool), "base"]
    counts = (controls if len(controls) else runs["base"]).value_counts()
    return min(counts.index, key=lambda arm: (-counts[arm], arm)) if len(counts) else None


def _cores(hardware: object) -> float:
    """Return the number of cores that a description of the hardware names."""
    match = _CORES.search(hardware) if isinstance(hardware, str) else None
    return float(match[1]) if match else np.nan
