"""What the README says can be run is run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
HIDE = "import sys; sys.modules.update(dict.fromkeys(['ray', 'optuna', 'pandas', 'plotly', 'pyarrow', 'suite']));"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_no_link_leads_nowhere(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "@" not in text.replace("@dataclass", ""), "a figure is still to be filled in"
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_training_loop_runs_where_only_torch_can_be_imported() -> None:
    [loop] = [block for block in BLOCKS if "AdaFisher" in block]
    check = "\nassert loss.isfinite() and loss < 1.09, loss  # chance is log 3\n"
    subprocess.run([sys.executable, "-c", HIDE + loop + check], check=True, cwd=ROOT)


def test_the_query_runs_on_results_of_this_schema(tmp_path: Path) -> None:
    from suite.results import Store
    from tests.suite.rows import run_row

    [query] = [block for block in BLOCKS if "groupby" in block]
    store = Store(str(tmp_path / "results" / "digits"), "digits")
    for trial, lr in enumerate([2e-3, 5e-3, 5e-2]):
        store.write(run_row(f"{trial}") | {"arm": "sgd", "purpose": "tune", "lr": lr, "val_metric": 0.9}, {})
    done = subprocess.run([sys.executable, "-c", query], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"sgd\s+1e-3\s+2\s+0\.9", done.stdout)
