"""What the optimizer keeps in memory."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import FigureSpec, arm_rows, arm_styles, empty, ink_on, label, panels, row_px
from reports.frames import Frames, base_arm, calibrated_arm


class Memory(NamedTuple):
    """The optimizer state of each arm.

    Args:
        rows: Columns arm, state_bytes (the largest of its runs), ratio (over the bytes of the parameters). Entries of
            one arm that keep the same, as tuned and default do, are one row.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    arms: tuple[str, ...]


def data(frames: Frames) -> Memory:
    """Return the largest optimizer state of each arm."""
    runs = frames.runs
    known = runs[(runs["optimizer_state_bytes"] >= 0) & (runs["parameter_bytes"] > 0)]
    known = known.assign(ratio=known["optimizer_state_bytes"] / known["parameter_bytes"])
    rows = known.groupby("arm", as_index=False).agg(
        state_bytes=("optimizer_state_bytes", "max"), ratio=("ratio", "max")
    )
    base = [base_arm(calibrated_arm(arm, frames.arms)) for arm in rows["arm"]]
    rows = rows.assign(base=base).drop_duplicates(["base", "state_bytes"], ignore_index=True)
    return Memory(rows[["arm", "state_bytes", "ratio"]], frames.arms)


def plot(data: Memory) -> go.Figure:
    """Return a bar an arm."""
    rows = data.rows
    if rows.empty:
        return empty("No run has recorded its optimizer state yet.")
    styles = arm_styles(data.arms)
    figure = panels([""], ["optimizer state ÷ bytes<br>of the parameters"], panel_px=row_px(len(rows)) * len(rows) + 20)
    figure.add_bar(
        x=rows["ratio"],
        y=list(range(len(rows))),
        orientation="h",
        width=0.6,
        marker_color=[styles[calibrated_arm(arm, styles)].color for arm in rows["arm"]],
        text=[
            f"{ratio:.2f} ({size / 1e3:,.0f} kB)"
            for ratio, size in zip(rows["ratio"], rows["state_bytes"], strict=True)
        ],
        textposition="auto",
        insidetextanchor="start",
        insidetextfont={"color": [ink_on(styles[calibrated_arm(arm, styles)].color) for arm in rows["arm"]]},
        hoverinfo="skip",
    )
    arm_rows(figure, [label(arm) for arm in rows["arm"]], row=1)
    return figure.update_layout(showlegend=False)


FIGURE = FigureSpec(
    name="memory",
    title="How much memory does the optimizer keep?",
    good="Lower is better.",
    data=data,
    plot=plot,
    note="Every tensor that the optimizer holds, each storage once, over the size of the parameters themselves: SGD "
    "with momentum keeps 1, Adam 2. Not the peak of the process, which the runs table of the results holds.",
)
