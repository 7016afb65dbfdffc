import io
import json
import os
import re
import sys

import pandas as pd
import pytest

import optimizers
import studies
from suite import __version__, cli, errors, workloads
from suite.results import Store, load
from tests.suite.rows import long_rows, run_row

SINGLE = ["run", "--workload", "tests.suite.tiny:MLP", "--optimizer", "sgd", "--budget", "20 steps"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory of one's own, with what people pass on the command line."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    (tmp_path / "nothing.py").write_text("STUDIES = 1\n")
    (tmp_path / "wrong.py").write_text("STUDY = 'digits'\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "syntax.py").write_text("STUDY =\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "broken.py").write_text("from suite.config import Budget\nSTUDY = Budget(kind='steps', amount=0)\n")
    store = Store(tmp_path / "results" / "digits", "digits")
    store.write(run_row(), long_rows())
    store.write(run_row("r1", trial=1, status="diverged", val_metric=None), {})
    return tmp_path


def snapshot(path):
    return {p.relative_to(path): p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


BAD = [
    # arguments, what the line says
    ("run digitz", "unknown study 'digitz'; known: ablations, .*, digits"),
    ("sweep digitz", "unknown study 'digitz'; known: ablations, .*, wall_clock_race, or the path of a .py file"),
    ("race digitz", "unknown study 'digitz'"),
    ("run --all digits", "--all does every study as it is declared"),
    ("run --all --set batch_size=32", "--all does every study as it is declared"),
    ("run --all --scale huge", "unknown scale 'huge'; known: paper, quick"),
    ("run --set answers=standing", "unknown answer 'standing'; known: ablations, .*"),
    ("memory --workload digitz --optimizer sgd", "unknown workload 'digitz'"),
    ("memory --workload digits --optimizer sdg", "no optimizer 'sdg'"),
    ("memory --workload digits --optimizer sgd --given lr=-1", "arm 'sgd': lr must be"),
    ("memory --workload digits --optimizer sgd --device tpu", "unknown device 'tpu'; known: cpu, cuda"),
    (
        "memory --workload digits --optimizer sgd --card 80",
        "the memory of a card reads like 80GiB or 24GB, but got '80'",
    ),
    ("memory --workload digits --optimizer sgd --batch-size 0", "batch_size must be >= 1, but got 0"),
    ("report digitz", "results/digitz' is not a results directory"),
    ("query digitz", "results/digitz' is not a results directory"),
    ("run missing.py", "there is no file 'missing.py'"),
    ("run nothing.py", "'nothing.py' has no STUDY of type Study"),
    ("run wrong.py", "'wrong.py' has no STUDY of type Study"),
    ("run raises.py", "'raises.py' cannot be loaded: ZeroDivisionError: division by zero"),
    ("run syntax.py", "'syntax.py' cannot be loaded: SyntaxError"),
    ("run leaves.py", "'leaves.py' cannot be loaded: SystemExit: 0"),
    ("run broken.py", "a budget must be > 0"),
    ("run --set name=other", "unknown field 'name'"),
    ("run --set tune.num_threads=0", "num_threads must be >= 1"),
    ("run --set workload=:SPEC", "the workload ':SPEC' cannot be imported"),
    ("run --set workload=.a:SPEC", "the workload '.a:SPEC' cannot be imported"),
    ("run --scale paper", "unknown scale of the study 'digits': 'paper'; known: quick"),
    ("run --scale huge", "unknown scale"),
    ("run --set arms=kfacc", "unknown arm 'kfacc'; known: adafactor, adafisher"),
    ("run --set batch_sise=1", "unknown field 'batch_sise'"),
    ("run --set tune.num_trials=0", "num_trials must be >= 1, but got 0"),
    ("run --set tune.num_trials=few", "'num_trials' is a int, but got 'few'"),
    ("run --set race.num_workers=3", "batch_size must be a multiple of num_workers"),
    ("run --set race.seeds=0", "race seeds must be fresh"),
    ("run --set race.budget=soon", "a budget reads like .* but got 'soon'"),
    ("run --set batch_size=0", "batch_size must be >= 1"),
    ("run --set batch_size=99998", "batch_size must be <= the 1257 training samples"),
    ("run --set splits=mine", "splits must be standard or paper"),
    ("run --set workload=digitz", "unknown workload 'digitz'; known: cifar.*, digits, .*, or package.module:SPEC"),
    ("run --set schedule.warmup_frac=2", "warmup_frac must be in"),
    ("run --results foreign", "foreign' is not empty and not a results directory"),
    ("run --results nothing.py", "nothing.py"),
    ("run --results nowhere://x", "'nowhere://x' is not a URI"),
    ("race --given sgd", "unknown arm"),
    ("race --given kfac.lr=1", "unknown arm 'kfac'; known: adafisher, adafisher-released, adam, sgd"),
    ("race --given sgd.lr", "a hyperparameter is given as field=value, but got 'lr'"),
    ("race --given sgd.beta=1", "no hyperparameter 'beta'; known: lr, momentum"),
    ("race --given sgd.lr=-1", "lr must be finite and >= 0, but got -1"),
    ("race --given sgd.lr=fast", "fast"),
    ("run --workload digits", "needs both --workload and --optimizer"),
    ("run --optimizer sgd", "needs both --workload and --optimizer"),
    ("run digits --workload digits --optimizer sgd", "and no study"),
    (
        "run --workload digitz --optimizer sgd",
        "unknown workload 'digitz'; known: cifar.*, digits, .*, or package.module:SPEC",
    ),
    ("run --workload digits --optimizer sgdd", "no optimizer 'sgdd'; known: sgd, adam"),
    ("run --workload syntax:W --optimizer sgd", "the workload 'syntax:W' cannot be imported"),
    ("run --workload digits --optimizer raises:O", "no optimizer 'raises:O': division by zero"),
    ("run --workload digits --optimizer leaves:O", "no optimizer 'leaves:O'"),
    ("run --workload digits --optimizer .a:O", "no optimizer '.a:O'"),
    ("run --workload digits --optimizer sgd --given lr=true", "lr must be no truth value, but got True"),
    ("run --workload digits --optimizer sgd --given nesterov=1", "nesterov must be true or false, but got 1"),
    ("run --workload digits --optimizer adafisher --given update_interval=2.5", "whole number >= 1, but got 2.5"),
    ("run --workload no.such:W --optimizer sgd", "the workload 'no.such:W' cannot be imported"),
    ("run --workload digits --optimizer no.such:O", "no optimizer 'no.such:O'"),
    ("run --workload digits --optimizer sgd --budget soon", "a budget reads like"),
    ("run --workload digits --optimizer sgd --budget 0s", "a budget must be > 0"),
    ("run --workload digits --optimizer sgd --budget '5 epochs of adam'", "adam"),
    ("run --workload digits --optimizer sgd --given lr=-1", "lr must be finite and >= 0, but got -1"),
    ("run --workload digits --optimizer sgd --given lr=fast", "fast"),
    ("run --workload digits --optimizer sgd --given lr=null", "lr"),
    ("run --workload digits --optimizer sgd --given lr", "field=value"),
    ("run --workload digits --optimizer sgd --given beta=1", "no hyperparameter 'beta'"),
    ("run --workload digits --optimizer sgd --workers 3", "batch_size must be a multiple of num_workers"),
    ("run --workload digits --optimizer sgd --workers 0", "num_workers must be >= 1"),
    ("run --workload digits --optimizer sgd --seed -1", "a seed must be in"),
    ("run --workload digits --optimizer sgd --results foreign", "not a results directory"),
    ("run --workload digits --optimizer sgd --results results/digits", "holds the study 'digits', not 'single'"),
    ("report foreign", "foreign' is not a results directory: it has no study.json"),
    ("query foreign", "foreign' is not a results directory"),
    ("query nowhere://x", "is not a URI"),
    ("sweep --retry diverged", "unknown status to retry 'diverged'; known: failed"),
    ("sweep --set tune.sampler=grid", "arm 'sgd': the sampler 'grid' needs a set of choices.*lr, momentum is a range"),
    ("sweep --set tune.space=vast", "arm 'sgd': sgd has no search space 'vast'; known: default"),
    ("sweep --set tune.num_trials=0", "num_trials must be >= 1, but got 0"),
    ("query --table run", "unknown table 'run'; known: ablations, arrays, .*, pairs, .*, runs, .*, trust"),
    ("query --columns colour", "unknown column 'colour'"),
    ("query --columns ''", "unknown column ''"),
    (f"query ./{'x' * 300}", "cannot be looked for"),
    ("query --format xml", "unknown format 'xml'; known: csv, json, latex, markdown, parquet, table"),
    (
        "query --to results.xlsx",
        "'results.xlsx' does not say which format is meant: give --format, or one of .csv, .json",
    ),
    ("query --columns arm,arm --format json", "a column is asked for twice: arm,arm"),
    ("query --where @pd.io.common.os.getcwd()", "cannot be answered"),
    ("figure digits history --width 100000", "the width must be 200 to 4000 pixels, but got 100000"),
    ("query --to nowhere/x.csv", "there is no folder 'nowhere'"),
    ("query --to foreign --format csv", "'foreign' cannot be written: Is a directory"),
    ("figure digits leaderbord", "unknown figure 'leaderbord'; known: leaderboard, .*"),
    ("figure digits leaderboard --to x.gif", "unknown kind of picture '.gif'; known: .pdf, .png, .svg"),
    ("figure digits leaderboard --to nowhere/x.svg", "there is no folder 'nowhere'"),
    ("figure digits leaderboard", "there is nothing to draw: No race runs yet"),
    ("figure digits history --theme sepia", "unknown theme 'sepia'; known: light, dark"),
    ("figure digits history --width 20", "the width must be 200 to 4000 pixels, but got 20"),
    (
        "figure digits history --case base",
        "no part of the study is workload None, case 'base'; known: tests.suite.tiny:MLP",
    ),
    ("figure digitz history", "results/digitz' is not a results directory"),
    ("report --all nowhere", "'nowhere' is no directory of studies"),
    ("report --all s3://somewhere", "'s3://somewhere' is no directory of studies, which has to be on a local disk"),
    ("report --all foreign", "'foreign' holds no study"),
    ("query --where 'colour == 1'", "the query 'colour == 1' cannot be answered"),
    ("query --where 'arm =='", "cannot be answered"),
]


def split(text):
    return [part.strip("'") for part in re.findall(r"'[^']*'|\S+", text)]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[text for text, _ in BAD])
def test_what_cannot_be_done_is_said_in_one_line(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("suite.execution.conduct._do", lambda *_: pytest.fail("the study was started"))
    monkeypatch.setattr("suite.execution.conduct._do_single", lambda *_: pytest.fail("the training was started"))
    before = snapshot(folder)
    assert cli.main(split(arguments)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.search(message, told.err)
    assert told.err.startswith("fisherbench: ")
    assert told.err.count("\n") == 1
    assert snapshot(folder) == before


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--fly"], [*SINGLE, "--seed", "x"]])
def test_what_cannot_be_read_ends_with_2_too(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "fisherbench" in capsys.readouterr().err


def test_an_interruption_is_said(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "doctor", interrupt)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "fisherbench: interrupted; the same command goes on where it stopped\n"


def test_the_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_the_list_names_everything(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["studies", "workloads", "optimizers"]
    names = [line.split()[0] for line in lines if line.startswith(" ")]
    assert names == [*studies.REGISTRY, *workloads.REGISTRY, *optimizers.REGISTRY]
    assert all(len(line.split()) > 1 for line in lines if line.startswith(" "))


def test_the_doctor_looks_at_the_machine(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for finding in ("hardware: ", f"usable CPUs: {usable}", "CUDA: ", "RAY_ADDRESS: ", "disk: "):
        assert finding in out


def test_a_dry_run_says_what_would_run_and_writes_nothing(folder, capsys):
    before = snapshot(folder)
    assert cli.main(["sweep", "--dry-run", "--set", "tune.num_trials=5", "--set", "race.seeds=7,8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits: ")
    assert lines[2].startswith("tune: 20 runs (4s, calibrated) on 1 worker")
    assert "80 s of training" in lines[2]
    assert lines[2].endswith(", after 4 calibrations")
    assert (
        lines[3].split()
        == "protocol fair: equal trials and equal time for every arm; sampler sobol, space default".split()
    )
    assert lines[4].split() == "sgd: lr 0.001 to 1 (log), momentum 0 to 0.99".split()
    assert lines[8].startswith("race: 8 runs (12s, calibrated) on 2 worker")
    assert snapshot(folder) == before


def test_a_dry_race_leaves_out_the_sweep(capsys):
    assert cli.main(["race", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[2:]] == ["race"]


def test_a_dry_single_training_trains_nothing(folder, capsys):
    before = snapshot(folder)
    assert cli.main([*SINGLE, "--dry-run"]) == 0
    assert snapshot(folder) == before
    assert "20 steps" in capsys.readouterr().out


STUDY_FILE = """
from suite.config import Arm, Budget
from suite.study import Race, Study
STUDY = Study(name="mine", question="Mine?", workload="tests.suite.tiny:MLP", batch_size=16,
              arms=(Arm(name="a", optimizer="sgd"),), race=Race(budget=Budget(kind="steps", amount=7)))
"""


def test_a_study_may_be_a_file(folder, capsys):
    (folder / "mine.py").write_text(STUDY_FILE)
    assert cli.main(["run", "mine.py", "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "mine: Mine?"
    assert out[2].startswith("race: 3 runs (7 steps)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "mine.py"], "the study 'mine' has no sweep; use `fisherbench run mine.py`"),
        (["race", "other.py"], "the study 'mine' has no race; use `fisherbench sweep other.py`"),
    ],
    ids=["sweep", "race"],
)
def test_a_stage_that_a_study_lacks(folder, capsys, arguments, message):
    (folder / "mine.py").write_text(STUDY_FILE)
    tuned = STUDY_FILE.replace("race=Race", "tune=Tuning").replace("import Race", "import Tuning")
    (folder / "other.py").write_text(tuned)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"fisherbench: {message}\n"


def test_a_single_training_is_done_once(folder, capsys, monkeypatch):
    assert cli.main(SINGLE) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "training tests.suite.tiny:MLP with sgd: 20 steps"
    monkeypatch.setattr("suite.execution.conduct.execute", lambda *_: pytest.fail("it was trained again"))
    assert cli.main(SINGLE) == 0
    assert capsys.readouterr().out.splitlines() == first[1:]
    assert len(load(folder / "results" / "single").runs) == 1


def test_other_values_are_another_training(folder):
    for extra in ([], ["--given", "lr=0.5"], ["--seed", "4"], ["--budget", "10 steps"]):
        assert cli.main([*SINGLE, *extra]) == 0
    runs = load(folder / "results" / "single").runs
    assert sorted(runs["lr"]) == [0.1, 0.1, 0.1, 0.5]
    assert sorted(runs["num_steps"]) == [10, 20, 20, 20]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=0.5", 0.5),
        ("n=3", 3),
        ("nesterov=True", True),
        ("nesterov=false", False),
        ("numerics=released", "released"),
        ("name=Big=Small", "Big=Small"),
    ],
)
def test_values_are_read_as_what_they_look_like(text, expected):
    [value] = cli._values([text]).values()
    assert value == expected
    assert type(value) is type(expected)


QUERIES = ["digits", "results/digits", "./results/digits"]


@pytest.mark.parametrize("place", QUERIES)
@pytest.mark.parametrize("table", ["runs", "epochs", "steps", "metrics"])
def test_a_query_as_csv_is_the_table(folder, capsys, place, table):
    assert cli.main(["query", place, "--table", table, "--format", "csv"]) == 0
    frame = getattr(load(folder / "results" / "digits"), table)
    assert not frame.empty
    told = pd.read_csv(io.StringIO(capsys.readouterr().out), dtype=str)
    expected = pd.read_csv(io.StringIO(frame.to_csv(index=False)), dtype=str)
    pd.testing.assert_frame_equal(told, expected)


def test_a_query_picks_rows_and_columns(capsys):
    arguments = ["--where", "status == 'diverged'", "--columns", "run_id, trial,val_metric", "--format", "json"]
    assert cli.main(["query", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == [{"run_id": "r1", "trial": 1, "val_metric": None}]


def test_every_study_is_done_though_one_cannot_be(folder, capsys, monkeypatch):
    done = []

    def conduct(study, arguments):
        done.append((study.name, arguments.results))
        if study.name == "kronecker":
            raise errors.UsageError("there is no room")

    monkeypatch.setattr(cli, "_conduct", conduct)
    assert cli.main(["run", "--all", "--results", "all"]) == 2
    assert done == [(name, f"all/{name}") for name in studies.REGISTRY]
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "fisherbench: kronecker: there is no room",
        f"fisherbench: 1 of {len(studies.REGISTRY)} studies could not be done: kronecker",
    ]


def test_a_study_without_the_scale_is_passed_over_and_said_so(folder, capsys, monkeypatch):
    done = []
    monkeypatch.setattr(cli, "_conduct", lambda study, _: done.append(study.name))
    assert cli.main(["run", "--all", "--scale", "paper"]) == 0
    assert done == [name for name, study in studies.REGISTRY.items() if study.paper]
    assert "digits: has no scale 'paper'" in capsys.readouterr().out


def test_a_dry_run_of_the_published_protocol_says_runs_hours_and_data_and_writes_nothing(folder, capsys, monkeypatch):
    monkeypatch.setenv("FISHERBENCH_DATA", str(folder / "none"))
    monkeypatch.setattr("suite.execution.conduct._do", lambda *_: pytest.fail("the study was started"))
    before = snapshot(folder)
    assert cli.main(["run", "schedulers", "--scale", "paper", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "race: 60 runs" in told
    assert re.search(r"about \d+\.\d GPU-hours of training on ", told)
    assert "data of cifar10_resnet18: missing: " in told
    assert snapshot(folder) == before


def test_what_a_step_would_need_is_said_without_the_hardware(capsys):
    assert cli.main(split("memory --workload digits --optimizer adam --device cpu --batch-size 64 --card 16MiB")) == 0
    told = capsys.readouterr().out
    assert re.search(r"digits with adam, batch 64, on cpu: 3\.\d\d MiB at the peak of a step", told)
    largest = int(re.search(r"largest batch that fits 16MiB, in steps of 32: (\d+)", told)[1])
    assert 256 < largest < 512
