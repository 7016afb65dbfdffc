"""The page of a study: one self-contained HTML file that loads nothing from anywhere.

First what a reader wants to know, then the figures, then every table. A study of several parts (workloads, cases) has a
summary, figures and tables of each, after the figures and tables of all of them together.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reports import tables, text
from reports.answers import Answer
from reports.answers.write import cells, heading, shown
from reports.figures import FIGURES
from reports.figures.base import ArmStyle, FigureSpec, arm_styles
from reports.frames import Frames, Metric, Part, Tables, is_tuning_only, metric_of, parts, prepare
from reports.provenance import provenance as provenance_table
from reports.race import race
from reports.summary import Summary, summary_of
from reports.sweep import sweep
from reports.tables import Table
from reports.trust import stamps

MAX_DRAWN = 6  # parts of a study that get all figures each
MAX_BRIEF = 24  # parts that get these each; of more, only the figures of the whole study are drawn
BRIEF = ("leaderboard", "placebo", "time_curves")
MAX_ROWS = 1000  # of an answer's table
MAX_JSON = 2_500_000  # bytes of figures: with plotly's script of 4.7 MB and the tables the page stays below 8 MB

Plan = Mapping[str, Sequence[str]]  # run id → purpose and arm


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure ready for the page.

    Args:
        id: In the page.
        spec: Its specification.
        good: What is good for this metric.
        json: Of plotly.
    """

    id: str
    spec: FigureSpec
    good: str
    json: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one part of a study.

    Args:
        title: What the part is called.
        is_race: Whether arms raced there.
        summary: In words.
        drawings: Its figures.
        tables: Its tables.
    """

    title: str
    is_race: bool
    summary: Summary
    drawings: tuple[Drawing, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is ready to be printed.

    Args:
        title: Heading.
        found: Runs that are there.
        planned: Runs that were planned; None where nobody planned.
        missing: What is missing of them, a sentence a purpose.
        arms: Styles of the arms.
        drawings: Figures of the whole study.
        answers: Its tables.
        sections: Its parts.
        overall: Who won how many of their races; empty for a single part.
        not_drawn: Title and reason of the figures that are not there.
        provenance: Where the numbers come from.
    """

    title: str
    found: int = 0
    planned: int | None = None
    missing: Sequence[str] = ()
    arms: Mapping[str, ArmStyle] = field(default_factory=dict)
    drawings: Sequence[Drawing] = ()
    answers: Sequence[tuple[Answer, Table]] = ()
    sections: Sequence[Section] = ()
    overall: str = ""
    not_drawn: Sequence[tuple[str, str]] = ()
    provenance: Table = Table("Provenance", ("Fact", "Value"), ())

    def html(self) -> str:
        """Return it as HTML, with plotly's script inside."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        script = Markup(get_plotlyjs())
        return str(template("page.html.jinja").render(given, swatch=_swatch, plotly_js=script))


class Drawer:
    """Draws figures until the page is full, and remembers what was not drawn, and why."""

    def __init__(self) -> None:
        self._room = MAX_JSON
        self._drawn: set[str] = set()
        self._missing: dict[str, str] = {}

    def draw(self, specs: Iterable[FigureSpec], frames: Frames, suffix: str = "") -> Iterator[Drawing]:
        """Yield the figures that have something to show.

        Args:
            specs: Which.
            frames: Of the study, or of a part of it.
            suffix: Behind the name of a figure in its identifier.

        Yields:
            In the order of the specifications.
        """
        metric = metric_of(frames)
        for spec in specs:
            figure = spec.draw(frames)
            if not figure.data:
                self._missing.setdefault(spec.name, figure.layout.annotations[0].text.rstrip("."))
                continue
            # no string in the JSON can end the script element that holds it
            drawn = Markup(figure.to_json().replace("<", "\\u003c"))
            self._room -= len(drawn)
            if self._room < 0:
                self._missing.setdefault(spec.name, "the page is full: `fisherbench figure` draws it")
                continue
            self._drawn.add(spec.name)
            yield Drawing(f"{spec.name}{suffix}", spec, _good(spec, metric), drawn)

    def missing(self) -> list[tuple[str, str]]:
        """Return title and reason of each figure that was nowhere drawn."""
        return [(FIGURES[name].title, reason) for name, reason in self._missing.items() if name not in self._drawn]


def render(
    frames: Tables,
    *,
    title: str,
    plan: Plan | None = None,
    provenance: Mapping[str, Any] | None = None,
    answers: Sequence[tuple[Answer, pd.DataFrame]] = (),
) -> str:
    """Return the report of a study as HTML.

    Args:
        frames: The study's tables, as ``suite.results.load`` returns them, or prepared.
        title: Heading of the page.
        plan: The planned runs; the page then says which are missing.
        provenance: Facts to print beside those in the results, e.g. the study's configuration; may be nested.
        answers: The plain tables that answer the study's question.

    Returns:
        One file with plotly.js inside, at most 8 MB.
    """
    prepared, drawer = prepare(frames), Drawer()
    found = list(parts(prepared)) or [Part("", "", prepared)]
    planned = len(plan) if plan is not None and len(found) == 1 else None
    words = partial(summary_of, planned=planned, checks=stamps(prepared))
    of_the_study = tuple(drawer.draw((spec for spec in FIGURES.values() if spec.is_of_the_study), prepared))
    sections = [
        _section(
            part, words, drawer.draw(_specs_of_a_part(part, len(found)), part.frames, f"-{number}" if number else "")
        )
        for number, part in enumerate(found)
    ]
    return Page(
        title=title,
        found=len(prepared.runs),
        planned=None if plan is None else len(plan),
        missing=_missing(prepared, plan or {}),
        arms=arm_styles(prepared.arms),
        drawings=of_the_study,
        answers=[(answer, _answered(answer, table)) for answer, table in answers],
        sections=sections,
        overall=_overall([section.summary for section in sections if section.is_race]),
        not_drawn=drawer.missing(),
        provenance=provenance_table(prepared, provenance),
    ).html()


def template(name: str) -> Any:  # noqa: ANN401
    """Return a page's template; what it prints is escaped.

    Args:
        name: Of the file.

    Returns:
        A template of Jinja.
    """
    environment = Environment(
        loader=PackageLoader("reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _specs_of_a_part(part: Part, num_parts: int) -> list[FigureSpec]:
    """Return the figures of a part: without a race none that shows one, and few where the study has many parts."""
    if num_parts > MAX_BRIEF:
        return []
    specs = [spec for spec in FIGURES.values() if not spec.is_of_the_study]
    if num_parts > MAX_DRAWN:
        specs = [spec for spec in specs if spec.name in BRIEF]
    return [spec for spec in specs if not (spec.is_of_the_race and is_tuning_only(part.frames))]


def _missing(frames: Frames, plan: Plan) -> list[str]:
    """Return what is not there of the plan, a sentence a purpose."""
    found = {*frames.runs["run_id"]}
    counts = Counter(tuple(what) for run_id, what in plan.items() if run_id not in found)
    purposes = dict.fromkeys(purpose for purpose, _ in counts)
    of_a = {p: [f"{arm} {number}" for (own, arm), number in sorted(counts.items()) if own == p] for p in purposes}
    return [f"{purpose}: {text.listing(arms)}" for purpose, arms in of_a.items()]


def _answered(answer: Answer, found: pd.DataFrame) -> Table:
    """Return an answer's table; a long one is cut, since the file beside the page has all of it."""
    frame, shared = shown(found)
    kept = frame.head(MAX_ROWS)
    cut = (
        f"The first {MAX_ROWS:,} of {len(found):,} rows: all are in the study's file." if len(found) > MAX_ROWS else ""
    )
    return Table(
        answer.title,
        tuple(heading(name) for name in frame.columns),
        tuple(cells(kept)),
        " ".join(filter(None, (shared, answer.note, cut))),
        name=answer.name,
        values=tuple(kept.itertuples(index=False, name=None)),
    )


def _title(part: Part) -> str:
    """Return what a part is called."""
    return f"Workload {part.workload}" + (f", case {part.case}" if part.case else "")


def _section(part: Part, words: Callable[..., Summary], drawings: Iterable[Drawing]) -> Section:
    """Return everything about one part of a study; where it was tuned and not raced, nothing of a race."""
    frames = part.frames
    result, searches = race(frames), sweep(frames)
    metric, is_tuned_only = result.metric, is_tuning_only(frames)
    winners = tables.winners(searches, metric.name)
    of_the_race = (
        tables.leaderboard(result),
        tables.comparisons(f"test {metric.name}", result.comparisons),
        tables.comparisons("test loss", result.loss_comparisons),
    )
    optional = (tables.searched(searches), tables.further_metrics(frames))
    return Section(
        _title(part),
        bool(result.standings),
        words(frames, result, searches),
        tuple(drawings),
        (
            *(() if is_tuned_only else of_the_race),
            winners,
            *(table for table in optional if table.rows),
            tables.calibration(frames),
            tables.time_spent(frames),
            tables.statuses(frames),
        ),
    )


def _overall(summaries: Sequence[Summary]) -> str:
    """Return who won how many of several races, as a sentence."""
    wins = Counter(summary.winner for summary in summaries)
    num_open = wins.pop(None, 0)
    if len(summaries) < 2:
        return ""
    if not wins:
        return f"In none of {len(summaries)} races is an arm resolved to be better than all others."
    won = text.listing(f"{arm} wins {number}" for arm, number in wins.most_common())
    return f"Of {len(summaries)} races {won}" + (f"; {num_open} are not resolved." if num_open else ".")


def _good(spec: FigureSpec, metric: Metric) -> str:
    """Return what is good in a figure, as a sentence."""
    good = spec.good.format(metric=f"{metric.name}: {metric.good}")
    return good[:1].upper() + good[1:]


def _swatch(style: ArmStyle) -> Markup:
    """Return a line as an arm's are drawn."""
    lengths = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4"}
    return Markup(
        '<svg width="34" height="10" aria-hidden="true"><line x1="1" y1="5" x2="33" y2="5" stroke="{}" '
        'stroke-width="3" stroke-dasharray="{}"/></svg>'
    ).format(style.color, lengths.get(style.dash, "11 3 2 3"))
