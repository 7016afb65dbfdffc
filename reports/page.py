"""The page: one self-contained HTML file that loads nothing from anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reports import tables
from reports.figures import FIGURES
from reports.figures.base import FigureSpec
from reports.frames import Frames, Metric, Tables, by_workload, is_tuning_only, prepare
from reports.provenance import provenance as provenance_table
from reports.race import race
from reports.summary import Summary, summary_of
from reports.sweep import sweep
from reports.tables import Table


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure ready for the page: its specification, what is good for this metric, and its JSON."""

    spec: FigureSpec
    good: str
    json: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one workload: under ``first`` the leaderboard, or what stands in for it."""

    workload: str
    summary: Summary
    first: Table
    drawings: tuple[Drawing, ...]
    tables: tuple[Table, ...]


def render(
    frames: Tables, *, title: str, planned: int | None = None, provenance: Mapping[str, Any] | None = None
) -> str:
    """Return the report of a study as HTML.

    Args:
        frames: The study's tables, as ``suite.results.load`` returns them.
        title: Heading of the page.
        planned: How many runs the study planned; the page then says how many are missing.
        provenance: Facts to print beside those in the results, e.g. the study's configuration; may be nested.

    Returns:
        One file with plotly.js inside, about 5 MB.
    """
    prepared = prepare(frames)
    workloads = list(by_workload(prepared)) or [("", prepared)]
    sections = [_section(name, part, planned if len(workloads) == 1 else None) for name, part in workloads]
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
        sections=sections,
        provenance=provenance_table(prepared, provenance),
        plotly_js=Markup(get_plotlyjs()),
    )


def _section(workload: str, frames: Frames, planned: int | None) -> Section:
    """Return everything about one workload; where it was tuned and not raced, nothing of a race."""
    result, searches = race(frames), sweep(frames)
    metric, is_tuned_only = result.metric, is_tuning_only(frames)
    winners = tables.winners(searches, metric.name)
    pairs = (
        tables.comparisons(f"test {metric.name}", result.comparisons),
        tables.comparisons("test loss", result.loss_comparisons),
        winners,
    )
    optional = (tables.searched(searches), tables.further_metrics(frames))
    return Section(
        workload,
        summary_of(frames, result, searches, planned),
        winners if is_tuned_only else tables.leaderboard(result),
        tuple(
            _drawing(spec, frames, metric) for spec in FIGURES.values() if not (is_tuned_only and spec.is_of_the_race)
        ),
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
