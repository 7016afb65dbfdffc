"""The notebook in docs: every cell runs on results of this schema, and what it shows is there."""

import ast
import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from suite.results import Store
from suite.results.schema import arrow_schema
from suite.results.store import _to_parquet
from tests.reports.synthetic import study

NOTEBOOK = Path(__file__).parents[1] / "docs" / "query.ipynb"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of a study that looks like the default one, in a directory."""
    store = Store(tmp_path_factory.mktemp("study") / "digits", "digits")
    store.create()
    tables = study()
    for name in ("runs", "epochs", "steps", "metrics", "arrays"):
        schema = arrow_schema(name)
        frame = getattr(tables, name).reindex(columns=schema.names)
        content = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        store.folder.write(f"tables/{name}.parquet", _to_parquet(content))
    return store.uri


def shown(source, namespace):
    """Run a cell and return the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    return eval(compile(last, "cell", "eval"), namespace) if last else None


def test_every_cell_runs_and_shows_something(results, monkeypatch, capsys):
    monkeypatch.setenv("FISHERBENCH_STUDY", str(results))
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    namespace, frames = {}, []
    for cell in cells:
        assert cell.get("outputs", []) == []  # no results in the repository
        if cell["cell_type"] == "code":
            value = shown("".join(cell["source"]), namespace)
            if isinstance(value, pd.DataFrame | pd.Series):
                frames.append(value)
                assert len(value), "".join(cell["source"])
    assert len(frames) >= 9
    assert frames[0].loc[("race", "adam")] == 3
    printed = capsys.readouterr().out
    assert "standings, pairs, searches" in printed and "\\begin{tabular}" in printed


@pytest.mark.parametrize("page", ["README.md", "docs/reports.md"])
def test_the_questions_that_a_page_shows_are_answered(results, page):
    text = (NOTEBOOK.parents[1] / page).read_text()
    [block] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import reports" in block]
    namespace = {}
    exec(block.replace("results/digits", str(results)), namespace)
    assert len(namespace["study"].leaderboard()) == 4
