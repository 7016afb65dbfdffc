"""The page: one self-contained HTML file that loads nothing from anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reports import answers as plain
from reports import tables
from reports.answers.write import cells, heading, shown
from reports.figures import FIGURES
from reports.figures.base import FigureSpec
from reports.frames import Frames, Metric, Part, Tables, is_tuning_only, parts, prepare
from reports.provenance import provenance as provenance_table
from reports.race import race
from reports.summary import Summary, summary_of
from reports.sweep import sweep
from reports.tables import Table

MAX_DRAWN = 6  # parts of a study that get figures; more are folded up
MAX_ROWS = 200  # of an answer's table


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure ready for the page: its specification, what is good for this metric, and its JSON."""

    spec: FigureSpec
    good: str
    json: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one part of a study: under ``first`` the leaderboard, or what stands in for it."""

    title: str
    summary: Summary
    first: Table
    drawings: tuple[Drawing, ...]
    tables: tuple[Table, ...]


def render(
    frames: Tables,
    *,
    title: str,
    planned: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    answers: Sequence[str] = (),
) -> str:
    """Return the report of a study as HTML.

    Args:
        frames: The study's tables, as ``suite.results.load`` returns them.
        title: Heading of the page.
        planned: How many runs the study planned; the page then says how many are missing.
        provenance: Facts to print beside those in the results, e.g. the study's configuration; may be nested.
        answers: Names of the plain tables that come first, of :data:`reports.answers.REGISTRY`.

    Returns:
        One file with plotly.js inside, about 5 MB.

    Raises:
        ValueError: If an answer is unknown.
    """  # noqa: DOC502
    prepared = prepare(frames)
    found = list(parts(prepared)) or [Part("", "", prepared)]
    is_drawn = len(found) <= MAX_DRAWN
    sections = [_section(part, planned if len(found) == 1 else None, is_drawn=is_drawn) for part in found]
    environment = Environment(
        loader=PackageLoader("reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=title,
        found=len(prepared.runs),
        planned=planned,
        answers=[_answered(plain.find(name), prepared) for name in answers],
        sections=sections,
        is_folded=not is_drawn,
        provenance=provenance_table(prepared, provenance),
        plotly_js=Markup(get_plotlyjs() if is_drawn else ""),
    )


def _answered(answer: plain.Answer, frames: Frames) -> tuple[plain.Answer, Table]:
    """Return an answer with its table; a long one is cut, since the file beside the page has all of it."""
    found = answer.table(frames)
    frame, shared = shown(found)
    cut = f"The first {MAX_ROWS} of {len(found):,} rows: all are in the study's file." if len(found) > MAX_ROWS else ""
    columns, rows = tuple(heading(name) for name in frame.columns), tuple(cells(frame.head(MAX_ROWS)))
    return answer, Table(answer.title, columns, rows, " ".join(filter(None, (shared, answer.note, cut))))


def _title(part: Part) -> str:
    """Return what a part is called."""
    return f"Workload {part.workload}" + (f", case {part.case}" if part.case else "")


def _section(part: Part, planned: int | None, *, is_drawn: bool) -> Section:
    """Return everything about one part of a study; where it was tuned and not raced, nothing of a race."""
    frames = part.frames
    result, searches = race(frames), sweep(frames)
    metric, is_tuned_only = result.metric, is_tuning_only(frames)
    winners = tables.winners(searches, metric.name)
    pairs = (
        tables.comparisons(f"test {metric.name}", result.comparisons),
        tables.comparisons("test loss", result.loss_comparisons),
        winners,
    )
    optional = (tables.searched(searches), tables.further_metrics(frames))
    figures = FIGURES.values() if is_drawn else ()
    return Section(
        _title(part),
        summary_of(frames, result, searches, planned),
        winners if is_tuned_only else tables.leaderboard(result),
        tuple(_drawing(spec, frames, metric) for spec in figures if not (is_tuned_only and spec.is_of_the_race)),
        (
            *(() if is_tuned_only else pairs),
            *(table for table in optional if table.rows),
            tables.calibration(frames),
            tables.time_spent(frames),
            tables.statuses(frames),
        ),
    )


def _drawing(spec: FigureSpec, frames: Frames, metric: Metric) -> Drawing:
    """Return a drawn figure; no string in its JSON can end the script element that holds it."""
    good = spec.good.format(metric=f"{metric.name}: {metric.good}")
    return Drawing(spec, good[:1].upper() + good[1:], Markup(spec.draw(frames).to_json().replace("<", "\\u003c")))
