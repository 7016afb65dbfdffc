"""What an arm's result costs: time with the tuning behind it, and memory."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.answers.base import last_values
from reports.figures.base import NEUTRAL, ArmStyle, FigureSpec, arm_styles, empty, label, log_axis, make_room, panels
from reports.figures.label_places import axis_range, is_far, label_places
from reports.frames import Frames, Metric, metric_of, race_runs
from reports.stats import Floats, estimate
from reports.text import count, names, number

DUST = 1e-12  # relative: of means that are equal but for round-off
LOG_FROM = 4.0  # largest cost over smallest
UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
HEIGHT_PX = 260
TRAINING, TUNING = "training time, seconds", "training time with the tuning behind it, seconds"
LEDGER, HELD = "peak memory of a step, measured", "parameters, gradients and optimizer state"


class Pareto(NamedTuple):
    """Results against costs.

    Args:
        points: Columns arm, cost (what was measured, with its unit), value, value_low, value_high, mean, low, high,
            num_runs, num_lost, note, is_front.
        missing: Arms of which every run was lost.
        metric: The workload's metric.
        arms: All arms of the study.
    """

    points: pd.DataFrame
    missing: tuple[str, ...]
    metric: Metric
    arms: tuple[str, ...]


def data(frames: Frames) -> Pareto:
    """Return the means of each competitor with their intervals, and who is on the front of each cost."""
    runs, metric = race_runs(frames), metric_of(frames)
    runs = runs[runs["source"] != "control"]
    found = [_points(runs, cost, metric.sign) for cost in (_time(runs), _memory(frames, runs))]
    points = pd.concat([own for own in found if len(own)] or found[:1], ignore_index=True)
    is_lost = runs.groupby("arm")["is_lost"].all()
    return Pareto(points, tuple(str(arm) for arm, lost in is_lost.items() if lost), metric, frames.arms)


def plot(data: Pareto) -> go.Figure:
    """Return a panel a cost, with a point an arm and the front as a line of steps."""
    shown = [own for _, own in data.points.groupby("cost", sort=False)]
    if not shown:
        return empty("No finished race run has recorded its cost yet.")
    titles = [str(own["cost"].iloc[0]) for own in shown]
    if data.missing:
        titles[-1] += f"<br>not drawn, every run lost: {label(names(data.missing, 'arm'))}"
    figure = panels([f"test {label(data.metric.name)}"] * len(shown), titles, panel_px=HEIGHT_PX)
    for row, own in enumerate(shown, start=1):
        _add_panel(figure, own, data, row)
    return make_room(figure, data.points["arm"].unique())


def _time(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds of each run: of its training, and of the tuning where that is known of any arm."""
    tuning = runs["tuning_time_s"]
    is_known = bool((tuning > 0).any())
    note = np.where(tuning.isna() & is_known, "tuning unknown, training alone", "")
    value = runs["train_time_s"] + tuning.fillna(0.0)
    return pd.DataFrame({"cost": TUNING if is_known else TRAINING, "value": value, "note": note}, index=runs.index)


def _memory(frames: Frames, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the bytes of each run: its measured peak if every arm has one, else what it must hold at least."""
    measured = last_values(frames, "memory/").reindex(columns=["peak_bytes"])["peak_bytes"]
    peak = runs["run_id"].map(measured).astype("float64")
    is_measured = bool(peak.notna()[~runs["is_lost"]].groupby(runs["arm"]).any().all())
    held = 2 * runs["parameter_bytes"] + runs["optimizer_state_bytes"]
    size, name = (peak, LEDGER) if is_measured else (held, HELD)
    unit = next((unit for unit, scale in UNITS.items() if size.max() >= scale), "kB")
    return pd.DataFrame({"cost": f"{name}, {unit}", "value": size / UNITS[unit], "note": ""}, index=runs.index)


def _points(runs: pd.DataFrame, costs: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Return a point an arm: over the runs that were not lost and whose cost is known."""
    rows = []
    for arm, own in costs.join(runs[["arm", "test_metric", "is_lost"]]).groupby("arm"):
        kept = own[~own["is_lost"] & (own["value"] > 0)]
        if len(kept):
            value, score = estimate(kept["value"]), estimate(kept["test_metric"])
            ends = {"value_low": value.low, "value_high": value.high, "low": score.low, "high": score.high}
            rows.append({
                **{"arm": str(arm), "cost": kept["cost"].iloc[0], "value": value.mean, "mean": score.mean, **ends},
                **{"num_runs": len(own), "num_lost": int(own["is_lost"].sum()), "note": kept["note"].iloc[0]},
            })
    columns = ["arm", "cost", "value", "value_low", "value_high", "mean", "low", "high", "num_runs", "num_lost", "note"]
    points = pd.DataFrame(rows, columns=columns)
    return points.assign(is_front=_front(points, sign))


def _front(points: pd.DataFrame, sign: int) -> list[bool]:
    """Return which arms no other arm dominates, by means; an arm that lost a run is not compared."""
    values, scores = points["value"].to_numpy(np.float64), sign * points["mean"].to_numpy(np.float64)
    is_whole = points["num_lost"].to_numpy() == 0
    # equal up to round-off is equal
    cost_dust, gain_dust = (DUST * np.abs(each).max(initial=0.0) for each in (values, scores))
    found = []
    for value, score in zip(values, scores, strict=True):
        costs, gains = values - value, scores - score
        is_no_worse = (costs <= cost_dust) & (gains >= -gain_dust)
        is_beaten = is_no_worse & ((costs < -cost_dust) | (gains > gain_dust))
        found.append(not (is_beaten & is_whole).any())
    return [bool(whole and on) for whole, on in zip(is_whole, found, strict=True)]


def _add_panel(figure: go.Figure, points: pd.DataFrame, data: Pareto, row: int) -> None:
    """Add the arms at one cost; the cost is on a logarithmic axis where its range asks for it."""
    sign, styles = data.metric.sign, arm_styles(data.arms)
    is_log = points["value"].max() >= LOG_FROM * points["value"].min()
    costs = points[["value", "value_low", "value_high"]].to_numpy(np.float64)
    costs = np.log10(costs.clip(min=costs[:, :1] * 1e-3)) if is_log else costs
    scores = points[["mean", "low", "high"]].to_numpy(np.float64)
    far = is_far(sign * scores[:, 0])
    ranges = axis_range(*costs.T), axis_range(*scores[~far].T)
    (left, right), (bottom, top) = ranges
    places = np.column_stack([(costs[:, 0] - left) / (right - left), (scores[:, 0] - bottom) / (top - bottom)])
    _add_front(figure, points, places, sign, row)
    edge = bottom if sign > 0 else top
    for point, outside in zip(points.itertuples(), far, strict=True):
        _add_point(figure, point, styles[str(point.arm)], edge if outside else None, row)
    figure.update_xaxes(row=row, **(log_axis(points["value"]) if is_log else {}), range=ranges[0])
    figure.update_yaxes(row=row, range=ranges[1])


def _add_front(figure: go.Figure, points: pd.DataFrame, places: Floats, sign: int, row: int) -> None:
    """Add the front as steps, which claim nothing between its arms, and the names that have room."""
    order = [place for place in np.argsort(places[:, 0]) if points["is_front"].iloc[place]]
    front, arms = points.iloc[order], [label(arm) for arm in points["arm"].iloc[order]]
    sides = [f"{height} {side}" for height in ("top", "bottom")[::sign] for side in ("left", "right", "center")]
    found = label_places(places[order], arms, places, sides)
    figure.add_scatter(
        x=front["value"],
        y=front["mean"],
        mode="lines+text",
        line={"color": NEUTRAL, "width": 1.5, "dash": "dot", "shape": "hv"},
        text=[arm if place else "" for arm, place in zip(arms, found, strict=True)],
        textposition=[place or sides[0] for place in found],
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
        row=row,
        col=1,
    )


def _add_point(figure: go.Figure, point: Any, style: ArmStyle, edge: float | None, row: int) -> None:
    """Add an arm, filled on the front and open elsewhere, with its intervals; at the edge if it is far off."""
    lost = f", {point.num_lost} of {count(point.num_runs, 'run')} lost" if point.num_lost else ""
    note = f"<br>{point.note}" if point.note else ""
    thin = {"color": style.color, "thickness": 1, "width": 3}
    figure.add_scatter(
        x=[point.value],
        y=[point.mean if edge is None else edge],
        name=label(point.arm),
        mode="markers" if edge is None else "markers+text",
        text=[f"at {number(point.mean)}"],
        textposition="middle right",
        marker={
            "color": style.color,
            "symbol": style.symbol if point.is_front else f"{style.symbol}-open",
            "size": 10,
            "line": {"width": 2, "color": style.color},
        },
        error_x=thin | _error(point.value, point.value_low, point.value_high),
        error_y=thin | _error(point.mean, point.low, point.high if edge is None else np.nan),
        legendgroup=point.arm,
        showlegend=row == 1,
        hovertemplate=f"%{{fullData.name}}: {number(point.mean, 4)} at %{{x:.4g}}{lost}{note}<extra></extra>",
        cliponaxis=False,
        row=row,
        col=1,
    )


def _error(mean: float, low: float, high: float) -> dict[str, Any]:
    """Return the two halves of an interval; none where it is not known."""
    return {"array": [high - mean], "arrayminus": [mean - low]} if np.isfinite(high - low) else {"visible": False}


FIGURE = FigureSpec(
    name="pareto",
    title="Is a better result worth what it costs?",
    good="{metric}; further left is cheaper.",
    data=data,
    plot=plot,
    note="Above: test result against the measured training time of a run, with that of the tuning behind its "
    "hyperparameters where an arm was tuned; a sweep counts in full for each entry that uses it. Below: against "
    "memory, the measured peak of a step if every arm has one, else the bytes of parameters, gradients and optimizer "
    "state, which leave out activations; the axis says which. Means over the runs that were not lost, with 95 % "
    "intervals, cut at the edge where they are long; an arm far behind the others stands at the edge with its value. "
    "Filled and joined by dotted steps: the arms for which no other is as good and as cheap; open: the others, and "
    "those that lost a run. That goes by the means alone, so that noise can explain who is on the front: differences "
    "are tested in the tables. Under equal budgets times differ by the tuning and by how exactly the budget was met. "
    "Controls are left out.",
    is_of_the_race=True,
)
