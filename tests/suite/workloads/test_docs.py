"""What docs/workloads.md says is so."""

import re
from pathlib import Path

import pytest

from suite import cli
from suite.results import load
from suite.workloads.catalogue import markdown

PAGE = (Path(__file__).parents[3] / "docs" / "workloads.md").read_text()
MAX_LINES = 40


def test_every_workload_is_in_the_table():
    assert markdown() in PAGE


def test_a_workload_of_ones_own_trains_by_its_module(tmp_path, monkeypatch):
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(example.splitlines()) <= MAX_LINES
    (tmp_path / "moons.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["--workload", "moons:SPEC", "--optimizer", "adam", "--given", "lr=0.03", "--budget", "20 epochs"]
    assert cli.main(["run", *arguments]) == 0
    [run] = load("results/single").runs.to_dict("records")
    assert (run["workload"], run["status"]) == ("moons:SPEC", "completed")
    assert run["val_metric"] > 0.95


@pytest.mark.parametrize("word", ["MOONS", "FIGURES", "TABLE", "RESNET8"])
def test_nothing_is_left_to_be_filled_in(word):
    assert word not in PAGE
