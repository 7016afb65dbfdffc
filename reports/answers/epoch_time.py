"""What an epoch of each arm takes, measured and calibrated, relative to SGD (Fig 24)."""

import math
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from reports import stats
from reports.answers.base import (
    PLACE,
    Answer,
    by_arm,
    counts,
    frame_of,
    last_values,
    numbers,
    raced,
    reference_of,
    settings,
    spread,
    spread_of,
    text,
)
from reports.answers.paired import Difference, compare
from reports.frames import Frames, Part, base_arm, calibrations, race_runs
from reports.trust import is_control, is_trusted

PERCENTILES = ("p50", "p95", "p99")
KINDS = ("step", "plain", "refresh")

COLUMNS = (
    text("workload", "case")
    | counts("batch_size", "num_workers", "num_threads", "rank")
    | text("arm", "trusted")
    | counts("num_runs", "num_lost")
    | spread("epoch_s")
    | numbers("calibrated_epoch_s")
    | text("reference")
    | numbers("over_reference", "over_reference_low", "over_reference_high", "over_reference_p_holm")
    | text("over_reference_verdict")
    | numbers("plain_step_s", "refresh_step_s", *(f"{kind}_{name}_s" for kind in KINDS for name in PERCENTILES))
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every case: by time where the study's times are trusted, else by name and not ranked."""
    profiles, trusts = _profiles(frames), is_trusted(frames)
    rows = (row for part in raced(frames) for row in _listed(_rows(part, profiles), trusts))
    return frame_of(rows, COLUMNS)


def _listed(rows: Iterable[dict[str, Any]], trusts: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case in order, with their ranks; a control is listed and not ranked."""
    if not trusts:
        for row in rows:
            verdict = row.get("over_reference_verdict")
            doubt = {"over_reference_verdict": f"{verdict}, by times that failed a check"} if verdict else {}
            yield row | {"trusted": "no"} | doubt
        return
    places = count(1)
    for row in sorted(rows, key=lambda row: (math.isnan(row["mean_epoch_s"]), row["mean_epoch_s"])):
        is_ranked = math.isfinite(row["mean_epoch_s"]) and not is_control(row["arm"])
        yield row | {"trusted": "yes", "rank": next(places) if is_ranked else None}


def _rows(part: Part, profiles: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case, by name."""
    runs = race_runs(part.frames)
    runs = runs.assign(epoch_s=runs["train_time_s"] / runs["num_epochs"].where(runs["num_epochs"] > 0))
    seconds, reference = by_arm(runs, "epoch_s"), reference_of(runs)
    ratios = _ratios(seconds, reference)
    for arm, own in runs.groupby("arm"):
        name = str(arm)
        yield {
            **settings(own),
            "arm": name,
            "num_runs": len(own),
            "num_lost": own["is_lost"].sum(),
            **spread_of("epoch_s", stats.estimate(seconds.get(name, []))),
            "reference": base_arm(name) if is_control(name) else reference,
            **_ratio_cells(ratios.get(name)),
            **_steps(part, own, profiles),
        }


def _ratios(seconds: dict[str, pd.Series], reference: str | None) -> dict[str, Difference]:
    """Return the logarithm of each arm's time over the reference's, paired by seed; a control's over its own arm's."""
    logs = {arm: np.log(values.where(values > 0)) for arm, values in seconds.items()}
    if reference not in logs:
        return {}
    rivals = [arm for arm in logs if arm != reference and not is_control(arm)]
    found = dict(zip(rivals, compare([(logs[arm], logs[reference]) for arm in rivals]), strict=True))
    for arm in filter(is_control, logs):
        if base_arm(arm) in logs:
            [found[arm]] = compare([(logs[arm], logs[base_arm(arm)])])
    return found


def _ratio_cells(ratio: Difference | None) -> dict[str, Any]:
    """Return the cells of a ratio: a geometric mean over the seeds."""
    if ratio is None:
        return {}
    mean, low, high = (math.exp(value) for value in (ratio.estimate.mean, ratio.estimate.low, ratio.estimate.high))
    return {
        "over_reference": mean,
        "over_reference_low": low,
        "over_reference_high": high,
        "over_reference_p_holm": ratio.p_holm,
        "over_reference_verdict": ratio.verdict,
    }


def _steps(part: Part, runs: pd.DataFrame, profiles: pd.DataFrame) -> dict[str, Any]:
    """Return what a step of an arm costs by its calibration and its profile."""
    arm = str(runs["arm"].iloc[0])
    costs = {name: runs[name].median() for name in ("step_s", "plain_step_s", "refresh_step_s")}
    if math.isnan(costs["step_s"]):
        measured = calibrations(part.frames)
        own = measured[measured["arm"] == (arm if (measured["arm"] == arm).any() else base_arm(arm))]
        costs = {name: own[name].median() for name in costs}
    per_epoch = (runs["num_steps"] / runs["num_epochs"].where(runs["num_epochs"] > 0)).median()
    place = [runs[name].iloc[0] for name in PLACE]
    found = profiles[(profiles["arm"] == arm) & (profiles[PLACE] == place).all(axis=1)]
    timed = [f"{kind}_{name}_s" for kind in KINDS for name in PERCENTILES]
    return {
        "calibrated_epoch_s": costs.pop("step_s") * per_epoch,
        **costs,
        **{name: found[name].median() for name in timed if name in found},
    }


def _profiles(frames: Frames) -> pd.DataFrame:
    """Return the profiles with their percentiles: one serves all cases in which a step costs the same."""
    runs = frames.runs[frames.runs["purpose"] == "profile"]
    return runs[["run_id", "arm", *PLACE]].merge(last_values(frames, "profile/"), on="run_id")


ANSWER = Answer(
    name="epoch_time",
    title="Epoch time",
    question="What does an epoch of each arm take, and how much more than one of SGD?",
    table=table,
    note="epoch_s: measured training time over epochs, mean, standard deviation and 95 % interval over the seeds that "
    "finished; calibrated_epoch_s: calibrated seconds of a step times the steps of an epoch. over_reference: geometric "
    "mean over common seeds of the arm's time over the reference's, with its interval; tested on its logarithm, "
    "Holm-corrected over the arms of the case. A control is compared with its own arm, and is not ranked. trusted: "
    "whether the study's times passed every check of its trust; where they did not, arms are listed by name and not "
    "ranked. plain and refresh: steps without and with a refresh of the factors; p50, p95, p99: of undisturbed steps.",
)
