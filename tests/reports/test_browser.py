import shutil
import subprocess

import pytest

from reports.answers import REGISTRY
from reports.figures import FIGURES
from reports.page import render
from tests.reports.searches import many
from tests.reports.synthetic import TableSet, cases, study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=30000 --dump-dom"
).split()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.mark.parametrize(
    ("tables", "scheme", "num_figures"),
    [
        (study(), 1, len(FIGURES)),
        (study(), 0, len(FIGURES)),
        (TableSet(), 1, len(FIGURES)),
        (many(num_arms=8, grid=True), 1, len(FIGURES)),
        (cases(num_cases=7), 1, 0),
    ],
    ids=["light", "dark", "empty", "many arms", "many cases"],
)
def test_draws_every_figure_without_a_console_message(tables, scheme, num_figures, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render(tables, title="In a browser", answers=[*REGISTRY]), encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, f"--blink-settings=preferredColorScheme={scheme}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    plots = done.stdout.split('class="plot js-plotly-plot"')[1:]
    assert len(plots) == num_figures
    assert all('class="main-svg"' in plot for plot in plots)
