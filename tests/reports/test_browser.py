import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from reports.answers import REGISTRY
from reports.figures import FIGURES
from reports.frames import parts, prepare
from reports.index import entry_of
from reports.index import render as render_index
from reports.page import Drawer, Page, render
from tests.reports.drawn import frames_for
from tests.reports.searches import many
from tests.reports.synthetic import ARMS, TableSet, cases, study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=60000 --dump-dom"
).split()
PHONE_PX = 360

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


def page_of(tables, title="In a browser"):
    """A page with every answer."""
    frames = prepare(tables)
    return render(frames, title=title, answers=[(answer, answer.table(frames)) for answer in REGISTRY.values()])


def opened(html, folder, scheme=1):
    """What Chromium makes of a page: its DOM, once everything is drawn, and what the console says."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, f"--blink-settings=preferredColorScheme={scheme}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def told(html, folder, script):
    """What a script says that runs in a page when all its figures are drawn."""
    waiting = f"""<script>
      const all = [...document.querySelectorAll(".plot")];
      const wait = setInterval(async () => {{
        if (all.some((plot) => !plot.querySelector(".main-svg"))) return;
        clearInterval(wait);
        const pause = () => new Promise((resume) => setTimeout(resume, 50));
        const said = await (async () => {{ await pause(); {script} }})();
        document.body.dataset.said = JSON.stringify(said);
      }}, 20);
    </script></body>"""
    dom, console = opened(html.replace("</body>", waiting), folder)
    assert console == []
    return json.loads(unescape(re.search(r'data-said="([^"]*)"', dom)[1]))


@pytest.mark.parametrize(
    "tables",
    [TableSet(), many(num_arms=8, grid=True), cases(num_cases=7)],
    ids=["empty", "many arms", "many cases"],  # the default study: in the tests below
)
def test_draws_a_page_without_a_console_message(tables, tmp_path):
    html = page_of(tables)
    dom, console = opened(html, tmp_path)
    assert console == []
    plots = dom.split('class="plot js-plotly-plot"')[1:]
    assert len(plots) == html.count('class="plot"')
    assert all('class="main-svg"' in plot for plot in plots)


def page_of_every_figure():
    """A page with every figure of the registry, each of a study that it draws."""
    drawer, drawings = Drawer(), []
    for name, spec in FIGURES.items():
        frames = frames_for(name)
        drawings += drawer.draw([spec], frames if spec.is_of_the_study else next(parts(frames)).frames)
    return Page(title="All", drawings=drawings).html()


def test_every_figure_is_drawn_in_the_dark(tmp_path):
    dom, console = opened(page_of_every_figure(), tmp_path, scheme=0)
    assert console == []
    found = re.findall(r'<figure id="([a-z_]+)">(.*?)</figure>', dom, re.DOTALL)
    assert [name for name, figure in found if 'class="main-svg"' in figure] == [*FIGURES]


def test_every_figure_is_drawn_in_the_light_and_tells_its_numbers(tmp_path):
    script = """
      document.querySelectorAll(".numbers").forEach((numbers) => (numbers.open = true));
      await pause();
      return [...document.querySelectorAll("figure")].map((figure) => [
        figure.id,
        figure.querySelectorAll(".main-svg").length > 0,
        figure.querySelectorAll(".numbers tbody tr").length,
        figure.querySelectorAll(".numbers button").length,
      ]);
    """
    said = told(page_of_every_figure(), tmp_path, script)
    assert [name for name, *_ in said] == [*FIGURES]
    assert all(drawn and num_rows and num_buttons == 3 for _, drawn, num_rows, num_buttons in said), said


def test_an_arm_that_is_hidden_at_once_stays_hidden(tmp_path):
    html = page_of(study())
    at_once = """<script>document.querySelector('.arms input[value="adam"]').click();</script><script>"""
    first = html.rindex("<script>")
    script = """
      return [...document.querySelectorAll(".plot")].flatMap((plot) =>
        plot.data.filter((trace) => trace.legendgroup === "adam").map((trace) => trace.visible !== false));
    """
    said = told(html[:first] + at_once + html[first + len("<script>") :], tmp_path, script)
    assert len(said) >= 4 and not any(said)


def test_the_index_is_shown_without_a_console_message(tmp_path):
    dom, console = opened(render_index([entry_of("digits", "Which?", prepare(study()), None)], title="All"), tmp_path)
    assert console == [] and 'href="digits/report.html"' in dom


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """What the page of the default study says when it is used: a table sorted, an arm hidden, a figure read."""
    script = """
      const table = document.querySelector('table[data-name="standings"]');
      const heads = [...table.tHead.rows[0].cells];
      const column = heads.findIndex((head) => head.textContent === "Mean test metric");
      const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.v));
      const click = () => { heads[column].querySelector("button").click(); return values(); };
      let saved = null;
      URL.createObjectURL = (blob) => { saved = blob; return "#"; };
      const sorted = [click(), click(), heads[column].getAttribute("aria-sort")];
      table.closest(".table").querySelector("button.save").click();

      const lines = () => [...document.querySelectorAll(".plot")].flatMap((plot) =>
        plot.data.filter((trace) => trace.legendgroup === "adam").map((trace) => trace.visible !== false));
      const before = lines();
      document.querySelector('.arms input[value="adam"]').click();
      await pause();

      const figure = document.getElementById("leaderboard");
      figure.querySelector(".numbers").open = true;
      await pause();
      const rows = [...figure.querySelectorAll(".numbers tr")];
      const numbers = rows.map((row) => [...row.cells].map((cell) => cell.textContent));
      return { sorted, csv: await saved.text(), before, after: lines(), numbers };
    """
    return told(page_of(study()), tmp_path_factory.mktemp("used"), script)


def test_a_heading_sorts_by_number_either_way_and_a_table_is_saved_in_full(used):
    frame = REGISTRY["standings"].table(prepare(study()))
    scores = sorted(frame["mean_test_metric"])
    assert used["sorted"] == [scores, scores[::-1], "descending"]
    lines = used["csv"].splitlines()
    assert len(lines) == 1 + len(frame) and str(scores[-1]) in lines[1]


def test_a_box_hides_an_arm_in_every_curve(used):
    assert len(used["before"]) >= 4 and all(used["before"]) and not any(used["after"])


def test_a_figure_tells_its_numbers(used):
    head, *rows = used["numbers"]
    assert head == ["trace", "x", "y", "value"]
    best = REGISTRY["standings"].table(prepare(study())).iloc[0]
    assert any(float(row[1]) == best["mean_test_metric"] and row[2] == best["arm"] for row in rows)
    assert {row[2] for row in rows} == set(ARMS)  # single seeds too, which stand beside the middle of their row


def test_nothing_is_wider_than_a_phone(tmp_path):
    say = """<script>
      const all = document.querySelectorAll(".plot");
      const wait = setInterval(() => {
        if ([...all].some((plot) => !plot.querySelector(".main-svg"))) return;
        clearInterval(wait);
        const wide = [...all].filter((plot) => plot.querySelector(".main-svg").clientWidth > plot.clientWidth + 1);
        const said = [document.documentElement.scrollWidth, all.length, wide.length];
        parent.document.body.dataset.said = JSON.stringify(said);
      }, 20);
    </script></body>"""
    page = escape(page_of(study()).replace("</body>", say))
    frame = f'<iframe srcdoc="{page}" style="width:{PHONE_PX}px;height:900px;border:0"></iframe>'
    dom, _ = opened(f"<!doctype html><body>{frame}</body>", tmp_path)
    width, num_plots, num_wide = json.loads(re.search(r'data-said="([^"]*)"', dom)[1])
    assert width <= PHONE_PX and num_plots >= 9 and num_wide == 0
