"""What the README says can be run is run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES_WITH_A_LOOP = {
    "README.md": "AdaFisher",
    "docs/adafisher.md": "AdaFisher",
    "docs/adahessian.md": "AdaHessian",
    "docs/eva.md": "Eva",
    "docs/kfac.md": "KFAC",
    "docs/shampoo.md": "Shampoo",
}
MAX_LOOP_LINES = 12
ABSENT = """ray optuna pandas plotly pyarrow scipy sklearn torchvision jinja2
    fisherbench suite studies reports optimizers""".split()


def blocks(page: str) -> list[str]:
    """Return the Python that a page shows."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_no_link_leads_nowhere(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "@" not in text.replace("@dataclass", ""), "a figure is still to be filled in"
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_tests_that_pages_name_exist() -> None:
    for page in ROOT.glob("docs/*.md"):
        for file, test in re.findall(r"`(test_\w+\.py)::(test_\w+)`", page.read_text()):
            assert f"def {test}(" in (ROOT / "tests/optimizers" / file).read_text(), f"{page.name}: {file}::{test}"


@pytest.mark.parametrize(
    ("page", "method", "name"),
    [
        ("README.md", "AdaFisher", "mylib"),
        *((page, method, "optimizers") for page, method in PAGES_WITH_A_LOOP.items()),
    ],
)
def test_a_training_loop_runs_beside_a_copy_of_the_folder_and_torch(
    page: str, method: str, name: str, tmp_path: Path
) -> None:
    loops = [block for block in blocks(page) if f"import {method}" in block]
    assert loops, f"{page} shows no training loop"
    shutil.copytree(ROOT / "optimizers", tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    hide = f"import sys; sys.modules.update(dict.fromkeys({[absent for absent in ABSENT if absent != name]}))\n"
    check = f"""
assert loss.isfinite() and loss < 1.09, loss  # chance is log 3
assert {method}.__module__ == "{name}.{method.lower()}", {method}.__module__
loaded = sys.modules["{name}"].__file__
assert loaded == {str(tmp_path / name / "__init__.py")!r}, loaded
"""
    for loop in loops:
        assert len([line for line in loop.splitlines() if line.strip()]) <= MAX_LOOP_LINES
        code = hide + loop.replace("from optimizers import", f"from {name} import") + check
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_the_study_and_the_specification_of_the_optimizers_page_work(tmp_path: Path) -> None:
    study, specification = blocks("docs/optimizers.md")
    (tmp_path / "my_study.py").write_text(study)
    (tmp_path / "my_optimizers.py").write_text(specification)
    command = [sys.executable, str(ROOT / "fisherbench.py")]
    planned = subprocess.run(
        [*command, "sweep", "my_study.py", "--dry-run"], check=True, cwd=tmp_path, capture_output=True
    )
    assert b"nadam: lr 0.0001 to 0.1 (log), betas of (0.9, 0.99), (0.9, 0.999)" in planned.stdout
    arm = ["--workload", "iris", "--optimizer", "my_optimizers:ADAM_MINI"]
    subprocess.run([*command, "run", *arm, "--budget", "5 steps"], check=True, cwd=tmp_path, capture_output=True)


def test_the_query_runs_on_results_of_this_schema(tmp_path: Path) -> None:
    from suite.results import Store
    from tests.suite.rows import run_row

    [query] = [block for block in blocks("README.md") if "groupby" in block]
    store = Store(str(tmp_path / "results" / "digits"), "digits")
    for trial, lr in enumerate([2e-3, 5e-3, 5e-2]):
        store.write(run_row(f"{trial}") | {"arm": "sgd", "purpose": "tune", "lr": lr, "val_metric": 0.9}, {})
    done = subprocess.run([sys.executable, "-c", query], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"sgd\s+1e-3\s+2\s+0\.9", done.stdout)
