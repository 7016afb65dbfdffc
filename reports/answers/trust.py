"""Whether the times of a study can be believed: the stamps of :mod:`reports.trust`."""

import pandas as pd

from reports.answers.base import Answer, frame_of, numbers, text
from reports.frames import Frames
from reports.trust import TIMED, stamps

COLUMNS = text("check", "verdict") | numbers("value", "bound") | text("finding")
VERDICTS = {True: "passed", False: "failed", None: "not judged"}


def table(frames: Frames) -> pd.DataFrame:
    """Return a row a check; nothing before the first run that is timed."""
    if not frames.runs["purpose"].isin(TIMED).any():
        return frame_of([], COLUMNS)
    rows = (
        {"check": s.name, "verdict": VERDICTS[s.is_ok], "value": s.value, "bound": s.bound, "finding": s.text}
        for s in stamps(frames)
    )
    return frame_of(rows, COLUMNS)


ANSWER = Answer(
    name="trust",
    title="Trust in the times",
    question="Can the times of this study be believed?",
    table=table,
    note="control: an arm that raced twice against itself. drift: of one arm's step over the study. load: what else "
    "ran on the machine. overshoot: how far from its budget a run ended that the clock ended. data: time spent waiting "
    "for data. value and bound: what was measured and what it may be; processes a core for load, else fractions. "
    "Where a check failed, times are shown and not ranked; what cannot be judged fails nothing.",
)
