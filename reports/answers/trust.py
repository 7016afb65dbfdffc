"""Whether the times of a study can be believed: the stamps of :mod:`reports.trust`."""

import pandas as pd

from reports.answers.base import Answer, frame_of, text
from reports.frames import SERVING, Frames
from reports.trust import stamps

COLUMNS = text("check", "verdict", "finding")
VERDICTS = {True: "passed", False: "failed", None: "not judged"}


def table(frames: Frames) -> pd.DataFrame:
    """Return a row a check; nothing before the first run that is timed."""
    if frames.runs["purpose"].isin((*SERVING, "tune")).all():
        return frame_of([], COLUMNS)
    rows = ({"check": s.name, "verdict": VERDICTS[s.is_ok], "finding": s.text} for s in stamps(frames))
    return frame_of(rows, COLUMNS)


ANSWER = Answer(
    name="trust",
    title="Trust in the times",
    question="Can the times of this study be believed?",
    table=table,
    note="control: an arm that raced twice against itself. drift: of one arm's step over the study. load: what else "
    "ran on the machine. overshoot: how far from its budget a run ended that the clock ended. data: time spent waiting "
    "for data. Where a check failed, times are shown and not ranked; what cannot be judged fails nothing.",
)
