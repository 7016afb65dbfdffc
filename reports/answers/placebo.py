"""How much of the gain over SGD is left when the placebo is taken away: whether it was the curvature that won."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.answers.base import BASELINE, Answer, by_arm, frame_of, numbers, raced, text
from reports.answers.paired import Difference, compare, difference_columns
from reports.frames import Frames, Part, metric_of, race_runs, remembered

COLUMNS = (
    text("workload", "case", "arm", "baseline")
    | difference_columns("gain")
    | text("placebo")
    | difference_columns("gain_over_placebo")
    | numbers("share_left")
    | text("share_verdict")
)


@dataclass(frozen=True, slots=True)
class Gain:
    """What an arm gains over SGD, and over its placebo; positive is better.

    Args:
        arm: Its name.
        over_baseline: Over the tuned baseline.
        placebo: Name of its placebo; ``None`` if it has no twin.
        over_placebo: Over that.
    """

    arm: str
    over_baseline: Difference
    placebo: str | None = None
    over_placebo: Difference | None = None

    @property
    def share_left(self) -> float:
        """What the arm gains over its placebo, over what it gains at all; NaN unless a gain is resolved."""
        if self.over_placebo is None or self.share_verdict != "resolved gain":
            return np.nan
        if self.over_placebo.verdict.startswith("not tested"):  # other seeds than those of the gain
            return np.nan
        return self.over_placebo.estimate.mean / self.over_baseline.estimate.mean

    @property
    def share_verdict(self) -> str:
        """Whether there is a gain to share."""
        if self.placebo is None:
            return "no placebo of its own"
        if not self.over_baseline.is_resolved:
            return self.over_baseline.verdict
        return "resolved gain" if self.over_baseline.estimate.mean > 0 else "no gain: resolved to be worse"


@remembered
def gains(frames: Frames) -> list[Gain]:
    """Return the gain of each arm of one part of a study over SGD and over its placebo.

    Args:
        frames: Prepared frames of the part.

    Returns:
        By name of arm, those with a placebo first; empty where no baseline races.
    """
    runs, sign = race_runs(frames), metric_of(frames).sign
    names = runs.loc[~runs["source"].isin(("placebo", "control")), "arm"].unique()
    if BASELINE not in names:
        return []
    scores = {arm: sign * values for arm, values in by_arm(runs, "test_metric").items()}
    twins = {arm: f"{arm} (placebo)" for arm in names if f"{arm} (placebo)" in scores}
    arms = sorted({*names} & {*scores} - {BASELINE}, key=lambda arm: (arm not in twins, arm))
    asked = [(arm, BASELINE) for arm in arms] + [(arm, twins[arm]) for arm in arms if arm in twins]
    found = dict(zip(asked, compare([(scores[a], scores[b]) for a, b in asked]), strict=True))
    return [Gain(arm, found[arm, BASELINE], twins.get(arm), found.get((arm, twins.get(arm, "")))) for arm in arms]


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every case in which SGD raced."""
    return frame_of((row for part in raced(frames) for row in _rows(part)), COLUMNS)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case."""
    for gain in gains(part.frames):
        yield {
            "workload": part.workload,
            "case": part.case,
            "arm": gain.arm,
            "baseline": BASELINE,
            **gain.over_baseline.cells("gain"),
            "placebo": gain.placebo,
            **(gain.over_placebo.cells("gain_over_placebo") if gain.over_placebo else {}),
            "share_left": gain.share_left,
            "share_verdict": gain.share_verdict,
        }


ANSWER = Answer(
    name="placebo",
    title="Gain and placebo",
    question="How much of an arm's gain over SGD is left when what a placebo without curvature gains is taken away?",
    table=table,
    note="A gain is a mean paired difference in the test metric over common seeds, positive if the arm is better, with "
    "its 95 % interval; Holm-corrected over the pairs of the case in this table. A placebo is SGD with momentum that "
    "takes the same steps without the curvature. share_left is the gain over the placebo, over the gain over SGD: 0 if "
    "the placebo does as well, 1 if it gains nothing; given only where the gain itself is resolved. An arm without a "
    "placebo of its own is measured against SGD tuned with the same trials, which is its placebo.",
)
