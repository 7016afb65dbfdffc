"""Performance profiles: on what share of a study's problems each arm is close to the best."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.figures.base import ArmStyle, FigureSpec, arm_styles, empty, label, log_axis, make_room, panels
from reports.frames import Frames, Part, parts, race_runs
from reports.performance_profile import performance_profile
from reports.race import standings
from reports.targets import watch
from reports.text import count

COSTS = {"time_s": "time to the target", "loss": "test loss"}
LEFT_OUT = ("control", "placebo")
LINEAR_UP_TO = 3.0  # factor
MIN_PROBLEMS, MIN_ARMS = 2, 2


class Profiles(NamedTuple):
    """The profiles of a study.

    Args:
        shares: By cost a frame as of :func:`reports.performance_profile.performance_profile`.
        num_problems: By cost.
        arms: All arms of the study.
    """

    shares: dict[str, pd.DataFrame]
    num_problems: dict[str, int]
    arms: tuple[str, ...]


def data(frames: Frames) -> Profiles:
    """Return the profile of each cost for which at least two problems have at least two arms in common."""
    costs = pd.DataFrame(
        [row for place, part in enumerate(parts(frames)) for row in _costs(part, place)],
        columns=["problem", "arm", *COSTS],
    )
    tables = {cost: _table(costs, cost) for cost in COSTS}
    kept = {cost: table for cost, table in tables.items() if len(table) >= MIN_PROBLEMS and table.shape[1] >= MIN_ARMS}
    shares = {cost: performance_profile(table) for cost, table in kept.items()}
    return Profiles(shares, {cost: len(table) for cost, table in kept.items()}, frames.arms)


def plot(data: Profiles) -> go.Figure:
    """Return a panel a cost: the share of problems solved within each factor of the best."""
    if not data.shares:
        return empty("Fewer than two workloads or cases in which the same arms have raced.")
    y_titles = [f"share of {count(data.num_problems[cost], 'problem')}" for cost in data.shares]
    x_titles = [f"{COSTS[cost]} ÷ that of the best arm" for cost in data.shares]
    figure = panels(y_titles, x_titles)
    styles = arm_styles(data.arms)
    named: set[str] = set()
    for row, shares in enumerate(data.shares.values(), start=1):
        end = 1 + 1.05 * (float(shares.index[-1]) - 1 or 0.1)
        for arm in map(str, shares):
            _add_profile(figure, shares[arm], end, styles[arm], row=row, show_name=arm not in named)
            named.add(arm)
        figure.update_xaxes(row=row, **_axis(end))
    figure.update_yaxes(range=[-0.04, 1.06])
    return make_room(figure, named)


def _costs(part: Part, problem: int) -> list[tuple[int, str, float, float]]:
    """Return problem, arm, time and loss of each competitor: infinite where it did not solve it, NaN if unknown."""
    if race_runs(part.frames).empty:
        return []
    times = {arm.arm: arm.median_s for arm in watch(part.frames).arms}
    return [
        (
            problem,
            s.arm,
            np.inf if np.isnan(times.get(s.arm, 0.0)) else times.get(s.arm, np.nan),
            np.inf if s.num_lost else s.loss.mean,
        )
        for s in standings(part.frames)
        if s.source not in LEFT_OUT
    ]


def _table(costs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the problems in which all arms took part; if these are too few, the arms that took part in all."""
    table = costs.pivot(index="problem", columns="arm", values=cost).dropna(how="all")
    whole = table.dropna()
    return whole if len(whole) >= MIN_PROBLEMS else table.dropna(axis="columns")


def _axis(end: float) -> dict[str, Any]:
    """Return the settings of the axis of factors, from 1 on."""
    if end <= LINEAR_UP_TO:
        return {"range": [1.0 - 0.02 * (end - 1.0), end]}
    return log_axis([1.0, end]) | {"range": [-0.02 * np.log10(end), np.log10(end)]}


def _add_profile(
    figure: go.Figure, shares: pd.Series, end: float, style: ArmStyle, *, row: int, show_name: bool
) -> None:
    """Add the profile of an arm, from factor 1 to the end of the axis."""
    arm, is_step = str(shares.name), shares.diff().fillna(shares) > 0
    figure.add_scatter(
        x=[1.0, *shares.index[is_step], end],
        y=[shares.iloc[0], *shares[is_step], shares.iloc[-1]],
        name=label(arm),
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 2, "shape": "hv"},
        marker={"symbol": style.symbol, "size": [0, *[7] * int(is_step.sum()), 0]},
        legendgroup=arm,
        showlegend=show_name,
        hovertemplate="%{fullData.name}: %{y:.0%} within %{x:.3g} × the best<extra></extra>",
        row=row,
        col=1,
    )


FIGURE = FigureSpec(
    name="profiles",
    title="On what share of the problems is an arm close to the best?",
    good="Higher and further left is better.",
    data=data,
    plot=plot,
    note="Performance profiles (Dolan and Moré, 2002): a problem is a workload under one set of conditions, a curve "
    "the share of problems that an arm solves within a factor of the best arm there; at factor 1 it is the share on "
    "which it is best. Above, by the median time to the target: unsolved where fewer than half of an arm's runs reach "
    "it. Below, by the mean test loss: unsolved where a run was lost. Only the problems in which all arms of the "
    "study raced count, or, where these are fewer than two, the arms that raced in all; controls and placebos are "
    "left out. The axes give the number of problems: with few, a curve is coarse and one problem moves it far, and "
    "noise is not in it. The cases of a study are no sample of what you may train. Without one of the arms the "
    "others' curves can change, even their order.",
    is_of_the_race=True,
    is_of_the_study=True,
)
