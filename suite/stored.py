"""Commands on stored results: the page, the tables and the figures. They load neither torch nor Ray."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import UsageError, known

if TYPE_CHECKING:
    import pandas as pd

    from reports.frames import Frames
    from suite.results import Store

REPORT = "report.html"
INDEX = "index.html"
RESULTS = "results"  # where studies are, below the working directory
DEFAULT_STUDY = "digits"
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown", ".tex": "latex", ".txt": "table"}


def absolute(uri: str) -> str:
    """Return a URI as it is, and a path from the root: Ray's processes work in folders of their own."""
    return uri if "://" in uri else os.path.abspath(uri)


@dataclass(frozen=True, slots=True)
class Stored:
    """A study's results beside its plan, ready for the reports.

    Args:
        title: What the study asks, or its name.
        frames: Of the runs that are planned, or of all where nobody planned.
        planned: Purpose and arm of each planned run by its id; None where nobody planned.
        study: Its configuration.
    """

    title: str
    frames: "Frames"
    planned: Mapping[str, Sequence[str]] | None
    study: Mapping[str, Any]

    @classmethod
    def of(cls, store: "Store") -> "Stored":
        """Read what a store holds."""
        from reports.frames import prepare

        plan, results = store.read_plan(), store.load()
        if not plan:
            return cls(store.study, prepare(results), None, {})
        runs = plan.get("runs") or {run_id: ("run", "") for run_id in plan["run_ids"]}  # of before runs had names there
        return cls(plan["question"], prepare(results.only(plan["run_ids"])), runs, plan["study"])


def write_report(store: "Store") -> "Stored":
    """Write the page of stored results, and the plain tables that answer the study's question.

    Args:
        store: Of one study.

    Returns:
        What was read.
    """
    from reports.answers import REGISTRY
    from reports.answers.write import csv_of, markdown_of
    from reports.page import render

    found = Stored.of(store)
    names = [name for name in found.study.get("answers", ()) if name in REGISTRY]
    answers = [(REGISTRY[name], REGISTRY[name].table(found.frames)) for name in names]
    for answer, table in answers:
        store.folder.write(f"answers/{answer.name}.csv", csv_of(table).encode())
    store.folder.write("answers/answers.md", markdown_of(answers).encode())
    page = render(found.frames, title=found.title, plan=found.planned, provenance=found.study, answers=answers)
    store.folder.write(REPORT, page.encode())
    return found


def report(arguments: argparse.Namespace) -> None:
    """Write the page of a study, or those of all studies in a directory and a page that leads to them."""
    if arguments.all:
        print(f"index: {write_index(arguments.study or RESULTS)}")
        return
    store = stored(arguments.study)
    write_report(store)
    print(f"report: {store.folder.shown(REPORT)}")


def studies_in(place: str) -> list[Path]:
    """Return the folders of a local directory that hold a study, by name."""
    return sorted(marker.parent for marker in Path(place).glob("*/study.json"))


def write_index(place: str, *, with_reports: bool = True) -> str:
    """Write an index of all studies in a directory.

    Args:
        place: The directory, on a local disk.
        with_reports: Whether to write the page of each study too.

    Returns:
        Path of the index.

    Raises:
        UsageError: If it is no directory or holds no study; or, when everything else is written, if the results of a
            study cannot be read.
    """
    from reports.index import Entry, entry_of, render
    from suite.results import Store

    root, folders = Path(place), studies_in(place)
    if not root.is_dir():
        raise UsageError(f"{place!r} is no directory of studies, which has to be on a local disk")
    if not folders:
        raise UsageError(f"{place!r} holds no study: none of its folders has a study.json")
    entries = []
    for folder in folders:
        try:
            found = (write_report if with_reports else Stored.of)(Store(folder))
            entries.append(entry_of(folder.name, found.title, found.frames, found.planned))
            if with_reports:
                print(f"report: {folder / REPORT}", flush=True)
        except UsageError as error:
            entries.append(Entry(folder.name, problem=" ".join(str(error).split())))
    index = root / INDEX
    index.write_text(render(entries, title="Fisherbench studies"), encoding="utf-8")
    problems = [entry.name for entry in entries if entry.problem]
    if problems:
        raise UsageError(f"{index} is written, but something is wrong with these studies: {', '.join(problems)}")
    return str(index)


def query(arguments: argparse.Namespace) -> None:
    """Print a table of stored results, or an answer, or write it into a file."""
    from reports.answers.write import FOR_PAPERS
    from suite.results.query import FORMATS, query, render

    fmt = _format(arguments.format, arguments.to)
    if fmt not in {*FORMATS, *FOR_PAPERS}:
        raise UsageError(known("format", fmt, [*FORMATS, *FOR_PAPERS]))
    if arguments.to:
        _check_folder(Path(arguments.to))
    frame = query(_table(arguments.study, arguments.table), arguments.where, arguments.columns)
    content = FOR_PAPERS[fmt](frame).encode() if fmt in FOR_PAPERS else render(frame, fmt)
    if arguments.to:
        _write(Path(arguments.to), content if fmt == "parquet" else content + b"\n")
    elif fmt != "parquet":
        print(content.decode(), flush=True)
    elif sys.stdout.isatty():
        raise UsageError("a Parquet file is nothing to read: add --to FILE.parquet, or send it on with | or >")
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


def figure(arguments: argparse.Namespace) -> None:
    """Write a figure of stored results into a file."""
    from reports.export import SUFFIXES as PICTURES
    from reports.export import write_image
    from reports.questions import Questions

    place = Path(arguments.to or f"{arguments.name}.svg")
    if place.suffix.lower() not in PICTURES:
        raise UsageError(known("kind of picture", place.suffix or str(place), PICTURES))
    _check_folder(place)
    try:
        drawn = Questions(stored(arguments.study).load()).figure(arguments.name, arguments.workload, arguments.case)
        write_image(drawn, place, theme=arguments.theme, width_px=arguments.width)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(f"figure: {place}")


def stored(study: str | None) -> "Store":
    """Open the results of a study.

    Args:
        study: Its name, or the directory or URI of its results; ``None``: the default study.

    Returns:
        Its store.
    """
    from suite.results import Store

    name = study or DEFAULT_STUDY
    is_place = "/" in name or os.path.isdir(name)
    return Store(absolute(name if is_place else f"{RESULTS}/{name}"))


def _table(study: str | None, name: str) -> "pd.DataFrame":
    """Return a table of the results, or an answer."""
    from reports.answers import REGISTRY
    from reports.questions import Questions
    from suite.results import TABLES

    if name not in {*TABLES, *REGISTRY}:
        raise UsageError(known("table", name, [*TABLES, *REGISTRY]))
    results = stored(study).load()
    frame: pd.DataFrame = getattr(results, name) if name in TABLES else Questions(results).answer(name)
    return frame


def _format(asked: str | None, to: str | None) -> str:
    """Return the format that was asked for, by the end of the file's name where by nothing else."""
    found = asked or SUFFIXES.get(Path(to).suffix.lower() if to else ".txt")
    if found:
        return found
    raise UsageError(f"{to!r} does not say which format is meant: give --format, or one of {', '.join(SUFFIXES)}")


def _write(place: Path, content: bytes) -> None:
    """Write a file that the user named."""
    try:
        place.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{str(place)!r} cannot be written: {error.strerror}") from error


def _check_folder(place: Path) -> None:
    """Refuse a file in a folder that is not there, before anything is computed."""
    if not place.parent.is_dir():
        raise UsageError(f"there is no folder {str(place.parent)!r}")
