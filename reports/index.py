"""The page that leads to the pages of many studies: what each asked, what it found, and what is missing."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass

import pandas as pd

from reports.frames import Frames, is_tuning_only, metric_of, parts
from reports.page import template
from reports.race import race
from reports.summary import summarize
from reports.text import count, number

MAX_HEADLINES = 4  # of a study; of more parts the others are counted


@dataclass(frozen=True, slots=True)
class Entry:
    """A study as the index has it.

    Args:
        name: Of its directory, which is what the link needs.
        question: What it asks.
        findings: A sentence a part, titled by the part where there are several.
        num_found: Runs that are there.
        num_planned: Runs that were planned; None where nobody says.
        finished: When the last run was.
        problem: Why its results cannot be read; then there is nothing else.
    """

    name: str
    question: str = ""
    findings: tuple[tuple[str, str], ...] = ()
    num_found: int = 0
    num_planned: int | None = None
    finished: str = ""
    problem: str = ""

    @property
    def state(self) -> str:
        """How far it is."""
        if self.num_planned is None:
            return count(self.num_found, "run")
        state = f"{self.num_found:,} of {count(self.num_planned, 'run')}"
        return state if self.num_found >= self.num_planned else f"{state}: not finished"


def entry_of(name: str, question: str, frames: Frames, planned: Sized | None) -> Entry:
    """Return the entry of a study.

    Args:
        name: Of its directory.
        question: What it asks.
        frames: Its prepared frames.
        planned: The runs that were planned; None where nobody says.

    Returns:
        The entry.
    """
    found = list(parts(frames))
    titles = [f"{part.workload} {part.case}".strip() if len(found) > 1 else "" for part in found]
    findings = [(title, _finding(part.frames)) for title, part in zip(titles, found, strict=True)]
    kept = findings[:MAX_HEADLINES]
    if len(findings) > len(kept):
        kept.append(("", f"and {count(len(findings) - len(kept), 'more part')}"))
    last = pd.to_datetime(frames.runs["finished_at"], utc=True).max()
    return Entry(
        name,
        question,
        tuple(kept),
        num_found=len(frames.runs),
        num_planned=None if planned is None else len(planned),
        finished="" if pd.isna(last) else f"{last:%Y-%m-%d %H:%M} UTC",
    )


def render(entries: Sequence[Entry], *, title: str) -> str:
    """Return the index as HTML.

    Args:
        entries: In the order of the page.
        title: Heading of the page.

    Returns:
        One file; its links are relative: ``<name>/report.html``.
    """
    return str(template("index.html.jinja").render(title=title, entries=entries))


def _finding(frames: Frames) -> str:
    """Return what a part found, in a sentence."""
    summary = summarize(frames)
    if summary.winner or is_tuning_only(frames):
        return summary.headline
    leader = next(iter(race(frames).complete), None)
    if leader is None:
        return summary.headline
    metric = metric_of(frames)
    return f"No winner: not resolved; best mean test {metric.name} {number(leader.metric.mean, 4)} by {leader.arm}."
