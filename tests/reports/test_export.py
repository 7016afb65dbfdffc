import shutil
from xml.etree import ElementTree as ET

import plotly.graph_objects as go
import pytest
from PIL import Image

from reports.export import PNG_SCALE, THEMES, themed, write_image
from reports.figures import FIGURES
from reports.figures.base import empty
from reports.frames import prepare
from tests.reports.synthetic import study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FIGURE = FIGURES["leaderboard"].draw(prepare(study(num_trials=2)))


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_colours_text_paper_and_grid_of_a_copy(theme):
    ink, paper, line = THEMES[theme]
    found = themed(FIGURE, theme)
    assert (found.layout.font.color, found.layout.paper_bgcolor) == (ink, paper)
    assert {axis.gridcolor for axis in (*found.select_xaxes(), *found.select_yaxes())} == {line}
    assert FIGURE.layout.paper_bgcolor == "rgba(0,0,0,0)" and FIGURE.layout.font.color is None


@pytest.mark.parametrize(
    ("figure", "name", "options", "message"),
    [
        (FIGURE, "x.gif", {}, "unknown kind of picture '.gif'; known: .png, .svg, .pdf"),
        (FIGURE, "x", {}, "unknown kind of picture ''"),
        (FIGURE, "x.svg", {"theme": "sepia"}, "unknown theme 'sepia'; known: light, dark"),
        (FIGURE, "x.svg", {"width_px": 10}, "the width must be 200 to 4000 pixels, but got 10"),
        (empty("No runs yet."), "x.svg", {}, "there is nothing to draw: No runs yet."),
    ],
)
def test_what_cannot_be_drawn_is_said(figure, name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_image(figure, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_without_a_browser_it_says_what_to_install(tmp_path, monkeypatch):
    from choreographer.errors import ChromeNotFoundError

    def none_found(*_, **__):
        raise ChromeNotFoundError

    monkeypatch.setattr("kaleido.calc_fig_sync", none_found)
    with pytest.raises(ValueError, match="there is none: `make browser` installs it"):
        write_image(FIGURE, tmp_path / "x.svg")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_pictures_of_each_kind(tmp_path):
    for suffix in (".png", ".svg", ".pdf"):
        write_image(FIGURE, tmp_path / f"x{suffix}", width_px=500)
    height = FIGURE.layout.height
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (500 * PNG_SCALE, height * PNG_SCALE)
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert (root.get("width"), root.get("height")) == ("500", str(height))
    assert "adafisher" in "".join(root.itertext())
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert isinstance(FIGURE, go.Figure)
