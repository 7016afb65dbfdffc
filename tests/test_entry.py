"""A folder of a user's that shadows one of our packages is said in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fisherbench

ROOT = Path(fisherbench.__file__).parent


@pytest.mark.parametrize("package", fisherbench.PACKAGES)
@pytest.mark.parametrize("is_package", [True, False], ids=["with __init__", "plain folder with a module"])
def test_a_shadowed_package_is_one_clear_line(package: str, is_package: bool, tmp_path: Path) -> None:
    theirs = tmp_path / package
    theirs.mkdir()
    (theirs / ("__init__.py" if is_package else "thing.py")).write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "fisherbench", "list"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    if is_package:  # a plain folder loses against ours, whatever the order of the path
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert package in done.stderr
        assert str(theirs) in done.stderr
    else:
        assert done.returncode == 0


def test_a_warning_is_one_line() -> None:
    text = fisherbench._one_line(UserWarning("these parameters\n  take the identity"), UserWarning, "file.py", 3)
    assert text == "fisherbench: warning: these parameters take the identity\n"


def test_ours_are_found_where_they_should_be() -> None:
    assert fisherbench.shadowed(ROOT) is None
