import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.answers.write import cells, csv_of, heading, latex_table, markdown_of, markdown_table, shown

COLUMNS = text("arm", "case") | counts("num_runs") | numbers("mean_step_s", "share")
FRAME = frame_of(
    [{"arm": "a|b\n<b>", "num_runs": 1200, "mean_step_s": 0.0123456}, {"arm": "c", "share": float("inf")}], COLUMNS
)
ANSWER = Answer(name="it", title="It", question="What?", table=lambda frames: FRAME, note="Read it so.")


def test_csv_has_numbers_in_full_and_null_as_nothing():
    assert csv_of(FRAME) == 'arm,case,num_runs,mean_step_s,share\n"a|b\n<b>",,1200,0.0123456,\nc,,,,\n'


def test_csv_of_no_rows_has_the_columns():
    assert csv_of(frame_of([], COLUMNS)) == "arm,case,num_runs,mean_step_s,share\n"


def test_markdown_is_a_table_that_no_cell_can_break():
    assert markdown_of([(ANSWER, FRAME)]) == (
        "## It\n\nWhat?\n\n"
        "| Arm | Runs | Mean step (s) |\n| --- | --- | --- |\n"
        "| a\\|b &lt;b> | 1,200 | 0.01235 |\n| c | – | – |\n\n"
        "Read it so.\n"
    )


def test_markdown_of_no_rows_says_so():
    assert "Nothing yet." in markdown_of([(ANSWER, frame_of([], COLUMNS))])


def test_columns_that_say_nothing_are_not_shown():
    frame, shared = shown(FRAME)
    assert (list(frame.columns), shared) == (["arm", "num_runs", "mean_step_s"], "")
    assert list(shown(frame_of([], COLUMNS))[0].columns) == list(COLUMNS)


def test_a_setting_that_all_rows_share_is_said_once():
    rows = [{"case": "<b>", "arm": arm, "batch_size": 64, "target": 0.5} for arm in "ab"]
    frame = frame_of(rows, text("case", "arm") | counts("batch_size") | numbers("target"))
    assert list(shown(frame)[0].columns) == ["arm"]
    assert "In all rows: case &lt;b>; batch size 64; target 0.5. Read it so." in markdown_of([(ANSWER, frame)])
    assert list(shown(frame.head(1))[0].columns) == ["case", "arm", "batch_size", "target"]


def test_headings_have_units():
    headings = ["Peak rss (bytes)", "Snr (dB)", "S", "Std step (s)", "Against best"]
    assert [heading(name) for name in ("peak_rss_bytes", "snr_db", "s", "std_step_s", "against_best")] == headings


def test_cells_are_rounded():
    frame = frame_of([{"share": 1 / 3, "num_runs": 5}], COLUMNS)
    assert cells(frame) == [("–", "–", "5", "–", "0.3333")]
    assert frame["num_runs"].dtype == pd.Int64Dtype()


def test_latex_is_a_table_for_booktabs():
    frame = FRAME.assign(arm=["50 %_x &\n<b>", "c"])
    lines = latex_table(frame).splitlines()
    assert lines[:2] == ["\\begin{tabular}{llrrr}", "\\toprule"] and lines[-1] == "\\end{tabular}"
    assert "Arm & Case & Runs & Mean step (s) & Share \\\\" in lines
    assert "50 \\%\\_x \\& <b> & – & 1,200 & 0.01235 & – \\\\" in lines


def test_markdown_of_one_table():
    assert markdown_table(FRAME).splitlines()[2] == "| a\\|b &lt;b> | – | 1,200 | 0.01235 | – |"
