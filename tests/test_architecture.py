"""Who may import whom, that the tables are complete, and that nothing has grown too large."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import optimizers
import studies
from optimizers import OptimizerSpec
from reports import figures
from suite import workloads
from suite.study import Study
from suite.workloads import WorkloadSpec

ROOT = Path(__file__).parents[1]
PACKAGES = ("optimizers", "suite", "studies", "reports")
MAX_LINES = 400
LONGER = {}  # file: why

# What a part of the project may import beside the standard library; the longest prefix of a file's path decides.
ALLOWED = {
    "fisherbench.py": {"suite.cli"},
    "optimizers": {"torch", "optimizers"},  # relatively: see the next test
    "suite/config.py": {"suite.errors", "optimizers"},
    "suite/study.py": {"suite.config", "suite.errors"},
    "suite/plan": {"suite.config", "suite.errors", "suite.plan", "suite.study", "suite.workloads", "optimizers"},
    "suite/override.py": {"suite.config", "suite.errors", "optimizers"},
    "suite/errors.py": set(),
    "suite/cli.py": {"suite", "studies", "reports", "optimizers"},
    "suite/stored.py": {"suite", "reports", "pandas"},
    "suite/parser.py": {"suite.errors"},
    "suite/workloads": {
        *("suite.errors", "suite.workloads", "torch", "torchvision", "timm", "vit_pytorch", "sklearn", "numpy", "PIL"),
        *("tokenizers", "safetensors"),
    },
    "suite/training": {"suite.config", "suite.errors", "suite.training", "suite.workloads", "optimizers", "torch"},
    "suite/diagnostics": {"suite.config", "suite.errors", "suite.diagnostics", "optimizers", "torch"},
    "suite/results": {"suite.errors", "suite.results", "pandas", "pyarrow"},
    "suite/execution": {"suite", "optimizers", "torch", "ray", "optuna"},
    "studies": {"suite.config", "suite.study", "optimizers", "studies"},
    "reports": {"reports", "suite.results", "pandas", "numpy", "scipy", "plotly", "jinja2", "markupsafe"},
    "reports/export.py": {"plotly", "kaleido", "choreographer"},
    "reports/figures/tuning.py": {"reports", "suite.results", "pandas", "numpy", "plotly", "optuna"},
}


def sources(folder: str = "") -> list[Path]:
    """Return the project's own files."""
    roots = [ROOT / folder] if folder else [ROOT / name for name in PACKAGES]
    return sorted(path for root in roots for path in root.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Return the absolute names of all modules that a file imports, wherever in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            is_package = (ROOT / module.replace(".", "/")).is_dir()
            yield from (f"{module}.{alias.name}" for alias in node.names) if is_package else [module]


def allowed_for(path: Path) -> set[str]:
    """Return what the most specific rule allows a file to import."""
    name = path.relative_to(ROOT).as_posix()
    rules = [key for key in ALLOWED if name == key or name.startswith(f"{key}/")]
    assert rules, f"{name} has no rule in ALLOWED"
    return ALLOWED[max(rules, key=len)]


@pytest.mark.parametrize(
    "path",
    [p for p in [*sources(), ROOT / "fisherbench.py"] if p.relative_to(ROOT).as_posix() != "suite/__init__.py"],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_a_file_imports_only_what_its_part_may(path: Path) -> None:
    for name in imports(path):
        is_standard = name.split(".")[0] in sys.stdlib_module_names
        is_allowed = any(name == rule or name.startswith(f"{rule}.") for rule in allowed_for(path))
        is_own_version = name == "suite.__version__"
        assert is_standard or is_allowed or is_own_version, f"{path.relative_to(ROOT)} may not import {name}"


def test_optimizers_use_relative_imports_only() -> None:
    for path in sources("optimizers"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] != "optimizers", path


def test_the_suite_imports_studies_and_reports_in_the_command_line_alone() -> None:
    for path in sources("suite"):
        if path.name not in {"cli.py", "stored.py"}:
            assert not {name.split(".")[0] for name in imports(path)} & {"studies", "reports"}, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("optimizers", ["ray", "optuna", "pandas", "plotly", "suite", "pytorch_optimizer"]),
        ("suite.training.loop", ["ray", "optuna", "pandas", "pyarrow"]),
        ("suite.results", ["torch", "ray", "optuna"]),
        ("reports.page", ["torch", "ray"]),
        ("suite.cli", ["torch", "ray", "optuna", "pandas", "plotly"]),
        ("suite.stored", ["torch", "ray", "optuna", "pandas", "plotly"]),
    ],
)
def test_importing_does_not_load(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize(
    ("package", "attribute_type", "table"),
    [
        ("optimizers", OptimizerSpec, optimizers.REGISTRY),
        ("suite.workloads", WorkloadSpec, workloads.REGISTRY),
        ("studies", Study, studies.REGISTRY),
        ("reports.figures", figures.FigureSpec, figures.FIGURES),
    ],
)
def test_every_declaration_is_in_its_table(package: str, attribute_type: type, table: dict[str, object]) -> None:
    for path in (ROOT / package.replace(".", "/")).glob("*.py"):
        if path.relative_to(ROOT).as_posix() == "optimizers/examples.py":
            continue  # named by their path, as a user's own
        module = importlib.import_module(package if path.stem == "__init__" else f"{package}.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, attribute_type):
                assert table.get(value.name) is value, f"{package}.{path.stem}: {value.name} is not in the table"


@pytest.mark.parametrize("name", sorted(optimizers.REGISTRY))
def test_every_optimizer_of_our_own_has_an_oracle_test(name: str) -> None:
    spec = optimizers.REGISTRY[name]
    method = type(spec.build(torch.nn.Linear(1, 1), spec.configure())).__module__
    oracle = f"oracles.{method.rpartition('.')[2]}"
    tests = [path.read_text() for path in (ROOT / "tests/optimizers").glob("test_*.py")]
    assert method.startswith("torch.") or any(oracle in text for text in tests), f"no test uses an oracle for {method}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES or path.relative_to(ROOT).as_posix() in LONGER
