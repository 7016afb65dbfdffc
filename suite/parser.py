"""What the command line takes: commands and their options, and nothing that they need."""

import argparse
from collections.abc import Callable, Mapping
from typing import NoReturn

from suite import __version__

Command = Callable[[argparse.Namespace], int | None]
Add = Callable[[str, str], argparse.ArgumentParser]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fisherbench: {message}; see {self.prog} --help\n")


def build_parser(found: Mapping[str, Command], default_study: str) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        found: What each command does, by its name.
        default_study: The study of commands that are given none.

    Returns:
        It sets ``command`` to what is to be done.
    """
    parser = _Parser(prog="fisherbench", description="Benchmark optimizers under equal wall-clock budgets.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=found[name])
        return sub

    _add_doing(add, default_study)
    _add_stored(add)
    sub = add("memory", "say what a training step would need on hardware that need not be here")
    sub.add_argument("--workload", required=True, help="name, or package.module:SPEC")
    sub.add_argument("--optimizer", required=True, help="name, package.module.Class, or package.module:SPEC")
    sub.add_argument("--given", action="append", default=[], metavar="FIELD=VALUE", help="a hyperparameter")
    sub.add_argument("--batch-size", type=int, help="samples a step (default: the workload's own)")
    sub.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda)")
    sub.add_argument("--card", help="e.g. 80GiB: say the largest batch that fits")
    add("list", "list studies, workloads and optimizers")
    add("doctor", "say whether this machine can run it")
    return parser


def _add_doing(add: Add, default_study: str) -> None:
    """Add the commands that train."""
    for name, text in (
        ("sweep", "tune every arm, race the winners, write the report"),
        ("race", "race with the stored winners or with given hyperparameters, write the report"),
        ("run", "do a whole study, or one training with --workload and --optimizer"),
    ):
        sub = add(name, text)
        sub.add_argument(
            "study", nargs="?", help=f"name of a study, or path of a file with a STUDY (default: {default_study})"
        )
        sub.add_argument("--scale", default="quick", help="quick or paper (default: quick)")
        sub.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field, e.g. race.seeds=1,2,3"
        )
        sub.add_argument("--results", help="directory or URI of the results (default: results/<study>)")
        sub.add_argument("--dry-run", action="store_true", help="say what would run and what it would cost")
        sub.add_argument("--retry", metavar="STATUS", help="do runs again that ended so: failed (out of memory too)")
        if name == "race":
            sub.add_argument(
                "--given", action="append", default=[], metavar="ARM.FIELD=VALUE", help="a hyperparameter of an arm"
            )
        if name == "run":
            sub.add_argument("--workload", help="name, or package.module:SPEC")
            sub.add_argument("--optimizer", help="name, package.module.Class, or package.module:SPEC")
            sub.add_argument("--given", action="append", default=[], metavar="FIELD=VALUE", help="a hyperparameter")
            sub.add_argument(
                "--budget", default="5 epochs", help="e.g. 12s, '5 epochs', '300 steps' (default: 5 epochs)"
            )
            sub.add_argument("--seed", type=int, default=0)
            sub.add_argument("--workers", type=int, default=1)
            sub.add_argument("--threads", type=int, default=1, help="CPU threads of each worker (default: 1)")
            sub.add_argument("--batch-size", type=int, help="samples a step (default: the workload's own)")
            sub.add_argument("--all", action="store_true", help="every registered study, one after another")


def _add_stored(add: Add) -> None:
    """Add the commands on stored results."""
    place = "name of a study, or directory or URI of results"
    sub = add("report", "write the HTML report of stored results")
    sub.add_argument("study", nargs="?", help=place)
    sub.add_argument(
        "--all", action="store_true", help="of all studies in a directory (default: results), with an index"
    )
    sub = add("query", "print stored results as a table")
    sub.add_argument("study", nargs="?", help=place)
    sub.add_argument(
        "--table", default="runs", help="runs, epochs, steps, metrics, arrays, or an answer (default: runs)"
    )
    sub.add_argument("--where", help="a pandas query, e.g. \"purpose == 'race' and test_metric > 0.9\"")
    sub.add_argument("--columns", help="comma-separated (default: all)")
    sub.add_argument("--format", help="table, csv, json, parquet, markdown or latex (default: by FILE, else table)")
    sub.add_argument("--to", metavar="FILE", help="write it there instead, e.g. table.tex")
    sub = add("figure", "write a figure of the report as PNG, SVG or PDF, with the Chromium of this machine")
    sub.add_argument("study", help=place)
    sub.add_argument("name", help="of the figure, e.g. leaderboard")
    sub.add_argument("--to", metavar="FILE", help="its end says the kind: .png .svg .pdf (default: <name>.svg)")
    sub.add_argument("--workload", help="where the study has several")
    sub.add_argument("--case", help="where the study has several")
    sub.add_argument("--theme", default="light", help="light or dark (default: light)")
    sub.add_argument("--width", type=int, default=640, help="in pixels (default: 640)")
