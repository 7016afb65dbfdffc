"""What every answer keeps, whatever there is in the results."""

import importlib
import pkgutil

import pandas as pd
import pytest

from reports import answers
from reports.answers import REGISTRY, Answer, find
from reports.answers.write import cells, csv_of, markdown_of
from reports.frames import prepare
from tests.reports.searches import many
from tests.reports.synthetic import case_of, frames_of, race_of, run, study

FRAMES = {
    "nothing": frames_of(),
    "one run": frames_of(runs=race_of({"sgd": [0.9]})),
    "all lost": frames_of(runs=race_of({"sgd": [None, None], "adam": [None, None]})),
    "not begun": frames_of(runs=[run("c", purpose="calibrate", step_s=0.01), run("p", purpose="pretrain")]),
    "one case lost": frames_of(
        runs=case_of("base", {"sgd": [0.9, 0.91], "adam": [None, 0.9]}) + case_of("hot", {"sgd": [None]}, lr=1.0)
    ),
    "study": prepare(study()),
    "many": prepare(many(num_arms=3)),
}


def test_every_declaration_is_in_the_registry():
    for module in pkgutil.iter_modules(answers.__path__):
        found = vars(importlib.import_module(f"reports.answers.{module.name}")).get("ANSWER")
        assert found is None or REGISTRY[found.name] is found, module.name
    assert all(isinstance(answer, Answer) and answer.question.endswith("?") for answer in REGISTRY.values())


def test_an_unknown_answer_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown answer 'standing'; known: standings, "):
        find("standing")


@pytest.mark.parametrize("name", REGISTRY)
def test_has_the_same_columns_whatever_there_is(name):
    tables = {what: REGISTRY[name].table(frames) for what, frames in FRAMES.items()}
    empty = tables["nothing"]
    assert isinstance(empty, pd.DataFrame) and len(empty.columns) and empty.empty
    for what, table in tables.items():
        assert list(table.columns) == list(empty.columns), what
        assert table.dtypes.to_dict() == empty.dtypes.to_dict(), what
        assert csv_of(table).count("\n") == len(table) + 1, what
        assert len(cells(table)) == len(table), what
        assert REGISTRY[name].title in markdown_of([(REGISTRY[name], table)]), what


@pytest.mark.parametrize("name", REGISTRY)
def test_a_lost_run_is_never_averaged(name):
    table = REGISTRY[name].table(FRAMES["all lost"])
    found = table.select_dtypes("float64").filter(regex="^mean_test|^std_test|difference|gain")
    assert not found.notna().any(axis=None)


@pytest.mark.parametrize("name", REGISTRY)
def test_does_not_change_the_frames(name):
    frames = FRAMES["study"]
    before = {table: getattr(frames, table).copy() for table in ("runs", "epochs", "steps", "metrics", "arrays")}
    REGISTRY[name].table(frames)
    for table, copy in before.items():
        pd.testing.assert_frame_equal(getattr(frames, table), copy)
