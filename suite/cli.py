"""The command line: reads what is asked, puts the parts together, and says what went wrong in one line.

It and :mod:`suite.stored` alone import all four packages, each where a command needs it.
"""

import argparse
import errno
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite import stored
from suite.errors import UsageError, known
from suite.parser import build_parser
from suite.stored import DEFAULT_STUDY, REPORT, RESULTS, absolute, write_report

if TYPE_CHECKING:
    from suite.config import Arm
    from suite.study import Study

SCALES = ("quick", "paper")


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Its arguments.

    Returns:
        Exit code: 0, 1 if a single training failed, 2 for what cannot be done as asked, 130 if interrupted.

    Raises:
        OSError: If the machine fails in another way than by a full disk.
    """
    arguments = build_parser(COMMANDS, DEFAULT_STUDY).parse_args(argv)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind ours: a user's own package.module:SPEC
    try:
        code: int | None = arguments.command(arguments)
    except UsageError as error:
        print(f"fisherbench: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fisherbench: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        _forget_output()
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _forget_output()
        print(f"fisherbench: {error.strerror}", file=sys.stderr)
        return 2
    return code or 0


def _forget_output() -> None:
    """Send what is still to be printed nowhere, since there is no room, or nobody to read it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sweep(arguments: argparse.Namespace) -> None:
    study = _study(arguments)
    if study.tune is None:
        raise UsageError(
            f"the study {study.name!r} has no sweep; use `fisherbench run {arguments.study or study.name}`"
        )
    _conduct(study, arguments)


def _race(arguments: argparse.Namespace) -> None:
    study = _study(arguments)
    if study.race is None:
        raise UsageError(
            f"the study {study.name!r} has no race; use `fisherbench sweep {arguments.study or study.name}`"
        )
    if arguments.given:
        study = _with_given(study, arguments)
    _conduct(study, arguments, stages=("race",))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.all:
        return _run_all(arguments)
    if not arguments.workload and not arguments.optimizer:
        _conduct(_study(arguments), arguments)
        return 0
    if not (arguments.workload and arguments.optimizer) or arguments.study:
        raise UsageError("one training needs both --workload and --optimizer, and no study")
    return _train_once(arguments)


def _run_all(arguments: argparse.Namespace) -> int:
    """Do every registered study; one that cannot be done keeps no other from it."""
    from studies import REGISTRY
    from suite.execution.session import OneSession

    if arguments.study or arguments.workload or arguments.optimizer or arguments.set:
        raise UsageError("--all does every study as it is declared; it goes with no study, training or --set")
    if arguments.scale not in SCALES:
        raise UsageError(known("scale", arguments.scale, SCALES))
    problems: list[str] = []
    with OneSession() as session:
        for name, study in REGISTRY.items():
            if arguments.scale == "paper" and study.paper is None:
                print(f"{name}: has no scale 'paper'", flush=True)
                continue
            place = f"{arguments.results}/{name}" if arguments.results else None
            own = argparse.Namespace(**{**vars(arguments), "study": name, "results": place})
            try:
                _conduct(_study(own), own)
            except UsageError as error:
                problems.append(name)
                print(f"fisherbench: {name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
                session.close()
            print(flush=True)
    place = arguments.results or RESULTS
    if not arguments.dry_run and stored.studies_in(place):
        print(f"index: {stored.write_index(place, with_reports=False)}")
    if problems:
        raise UsageError(f"{len(problems)} of {len(REGISTRY)} studies could not be done: {', '.join(problems)}")
    return 0


def _study(arguments: argparse.Namespace) -> "Study":
    """Return the study that was asked for, at its scale and with its overrides."""
    from reports.answers import REGISTRY as ANSWERS
    from studies import REGISTRY
    from suite.override import override
    from suite.study import Study

    name = arguments.study or DEFAULT_STUDY
    if name.endswith(".py"):
        study = getattr(_module(Path(name)), "STUDY", None)
        if not isinstance(study, Study):
            raise UsageError(f"{name!r} has no STUDY of type Study")
    elif name in REGISTRY:
        study = REGISTRY[name]
    else:
        raise UsageError(f"{known('study', name, REGISTRY)}, or the path of a .py file")
    study = study.at_scale(arguments.scale)
    for assignment in arguments.set:
        study = override(study, assignment)
    for answer in study.answers:
        if answer not in ANSWERS:
            raise UsageError(known("answer", answer, ANSWERS))
    return study


def _module(path: Path) -> Any:  # noqa: ANN401
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        raise UsageError(f"{str(path)!r} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _with_given(study: "Study", arguments: argparse.Namespace) -> "Study":
    """Return the study without its sweep: some arms as given by hand, the others as the stored sweep has them."""
    from suite.config import Budget
    from suite.execution.conduct import check
    from suite.execution.selection import winners
    from suite.results import Store
    from suite.study import Race

    given: dict[str, list[str]] = {}
    arms = {arm.name: arm for arm in study.arms}
    for text in arguments.given:
        name, dot, assignment = text.partition(".")
        if not dot or name not in arms:
            raise UsageError(f"{known('arm', name, arms)}; write --given ARM.FIELD=VALUE")
        given.setdefault(name, []).append(assignment)
    fixed = {name: _values(assignments) for name, assignments in given.items()}
    by_hand = replace(study, tune=None, arms=_fixing(study.arms, fixed))
    check(by_hand, needs_data=not arguments.dry_run)
    others = tuple(arm for arm in study.arms if arm.name not in given)
    if not (others and study.tune and study.race):
        return by_hand
    store = Store(_place(study, arguments), study.name)
    tuned = replace(study, arms=others, race=Race(budget=Budget(kind="steps", amount=1)))  # what asks for winners alone
    fixed |= {arm: winner.point or {} for (arm, _), winner in winners(tuned, store.finished()).items()}
    return replace(study, tune=None, arms=_fixing(study.arms, fixed))


def _fixing(arms: "Sequence[Arm]", fixed: Mapping[str, Mapping[str, Any]]) -> "tuple[Arm, ...]":
    """Return arms with further hyperparameters that they fix, by name of the arm."""
    return tuple(replace(arm, fixed={**arm.fixed, **fixed.get(arm.name, {})}) for arm in arms)


def _values(assignments: Sequence[str]) -> dict[str, Any]:
    """Read ``field=value`` pairs; a value is a number, true, false, or text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise UsageError(f"a hyperparameter is given as field=value, but got {assignment!r}")
        try:
            values[name] = json.loads(text.lower())
        except ValueError:
            values[name] = text
    return values


def _conduct(study: "Study", arguments: argparse.Namespace, stages: Sequence[str] = ("tune", "race")) -> None:
    from suite.execution.conduct import check, conduct
    from suite.execution.cost import estimate
    from suite.results import Store

    retry = _retried(arguments)
    with _offline() if arguments.dry_run else nullcontext():
        check(study, needs_data=not arguments.dry_run)
        store = None if arguments.dry_run else Store(_place(study, arguments), study.name)
        lines = estimate(study, stages, on_gpu=arguments.scale == "paper")
    print("\n".join(lines), flush=True)
    if store is None:
        return
    has_news = conduct(study, store, _say, stages=stages, retry=retry)
    if has_news or not store.folder.has(REPORT):
        write_report(store)
    print(f"report: {store.folder.shown(REPORT)}")


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid downloads: none is made to say what would be needed."""
    name = "FISHERBENCH_OFFLINE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _retried(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the statuses of runs that are to be done again."""
    from suite.execution.failures import FAILURES

    if arguments.retry not in {None, "failed"}:
        raise UsageError(known("status to retry", arguments.retry, ["failed"]))
    return FAILURES if arguments.retry else ()


def _place(study: "Study", arguments: argparse.Namespace) -> str:
    """Return where the results of a study are."""
    suffix = "" if arguments.scale == "quick" else f"-{arguments.scale}"
    return absolute(arguments.results or f"{RESULTS}/{study.name}{suffix}")


def _train_once(arguments: argparse.Namespace) -> int:
    from suite import workloads
    from suite.config import Arm, Budget, Run
    from suite.execution.conduct import check_run, do_single
    from suite.results import Store

    run = Run(
        study="single",
        workload=arguments.workload,
        arm=Arm(name=arguments.optimizer, optimizer=arguments.optimizer, fixed=_values(arguments.given)),
        purpose="single",
        seed=arguments.seed,
        budget=Budget.parse(arguments.budget),
        batch_size=workloads.find(arguments.workload).batch_size
        if arguments.batch_size is None
        else arguments.batch_size,
        num_workers=arguments.workers,
        num_threads=arguments.threads,
        data_version=None if arguments.dry_run else workloads.data_version(arguments.workload),
    )
    if arguments.dry_run:
        with _offline():
            check_run(run, needs_data=False)
        print(f"{run.purpose}: {run.workload} with {run.arm.name}, {run.budget} on {run.num_workers} worker(s)")
        return 0
    check_run(run)
    store = Store(absolute(arguments.results or f"{RESULTS}/single"), run.study)
    failure = do_single(run, store, _say, _retried(arguments))
    if failure:
        print(f"fisherbench: the training failed: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _list(_: argparse.Namespace) -> None:
    import optimizers
    import studies
    from suite import workloads

    for title, rows in (
        ("studies", {name: study.question for name, study in studies.REGISTRY.items()}),
        ("workloads", {name: spec.reference for name, spec in workloads.REGISTRY.items()}),
        ("optimizers", {name: spec.reference for name, spec in optimizers.REGISTRY.items()}),
    ):
        print(title)
        width = max(map(len, rows))
        for name, text in rows.items():
            print(f"  {name:<{width}}  {text}")


def _doctor(_: argparse.Namespace) -> None:
    from suite.execution.doctor import examine

    for line in examine():
        print(line)


def _say(text: str) -> None:
    print(text, flush=True)


def _memory(arguments: argparse.Namespace) -> None:
    from suite.execution.ledgers import foresee

    given = _values(arguments.given)
    lines = foresee(
        arguments.workload, arguments.optimizer, given, arguments.batch_size, arguments.device, arguments.card
    )
    print("\n".join(lines))


COMMANDS = {
    "sweep": _sweep,
    "race": _race,
    "run": _run,
    "report": stored.report,
    "query": stored.query,
    "figure": stored.figure,
    "memory": _memory,
    "list": _list,
    "doctor": _doctor,
}
