"""Which hyperparameters mattered: Optuna's importances, on a study built in memory from the runs frame."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from reports.figures.base import FigureSpec, arm_styles, empty, ink_on, label, lines_of, make_room, panels
from reports.frames import Frames, metric_of, read_json, tune_runs

MIN_TRIALS = 8  # finished; below, the trees of fANOVA fit noise


class Importances(NamedTuple):
    """The importances.

    Args:
        rows: Columns arm, hyperparameter, importance (of an arm they sum to 1).
        skipped: Arms with too few finished trials, or with fewer than two hyperparameters that vary → the reason.
        arms: All arms of the study.
    """

    rows: pd.DataFrame
    skipped: dict[str, str]
    arms: tuple[str, ...]


def data(frames: Frames) -> Importances:
    """Return the importances by fANOVA (Hutter et al., 2014) over the finished trials of each arm."""
    rows: list[tuple[str, str, float]] = []
    skipped = {}
    for arm, group in tune_runs(frames).groupby("arm"):
        trials = group.dropna(subset="score")
        tried = points(trials).dropna(axis="columns")
        if len(trials) < MIN_TRIALS:
            skipped[str(arm)] = f"too few trials ({len(trials)} finished, {MIN_TRIALS} needed)"
        elif tried.shape[1] < 2:
            skipped[str(arm)] = "fewer than two hyperparameters vary"
        elif trials["score"].nunique() < 2:
            skipped[str(arm)] = "all its trials scored alike"
        else:
            shares = _importances(tried, trials["score"], maximize=metric_of(frames).sign > 0)
            rows.extend((str(arm), name, share) for name, share in shares.items())
    return Importances(pd.DataFrame(rows, columns=["arm", "hyperparameter", "importance"]), skipped, frames.arms)


def points(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the hyperparameters of the trials, those that vary: a row a trial, a column a hyperparameter.

    Args:
        trials: Tune runs.

    Returns:
        Numbers as float64; anything else as JSON, a category.
    """
    table = pd.DataFrame([read_json(text) for text in trials["hyperparameters"]], index=trials.index)
    numbers = table.select_dtypes("number").astype("float64")
    others = table.drop(columns=numbers.columns).map(json.dumps)
    known = pd.concat([numbers, others], axis="columns")
    return known.loc[:, known.nunique() > 1]


def plot(data: Importances) -> go.Figure:
    """Return a group of bars a hyperparameter, a bar an arm."""
    reasons = [f"{arm}: {reason}" for arm, reason in data.skipped.items()]
    if data.rows.empty:
        return empty(*(reasons or ["No trials yet."]))
    names = list(data.rows.groupby("hyperparameter")["importance"].mean().sort_values().index)
    shown = [arm for arm in data.arms if (data.rows["arm"] == arm).any()]
    height = 26 * len(data.rows) + 12 * len(names) + 30
    figure = panels([""], [lines_of(["importance", *reasons])], panel_px=height)
    styles = arm_styles(data.arms)
    for arm in reversed(shown):
        rows = data.rows[data.rows["arm"] == arm]
        figure.add_bar(
            x=rows["importance"],
            y=[label(name) for name in rows["hyperparameter"]],
            name=label(arm),
            orientation="h",
            marker={"color": styles[arm].color, "pattern": {"shape": styles[arm].hatch, "fillmode": "overlay"}},
            texttemplate="%{x:.2f}",
            textposition="auto",
            insidetextanchor="start",
            insidetextfont={"color": ink_on(styles[arm].color)},
            hovertemplate="%{fullData.name}: %{x:.2f}<extra></extra>",
        )
    figure.update_yaxes(categoryorder="array", categoryarray=[label(name) for name in names])
    return make_room(figure.update_layout(legend_traceorder="reversed"), shown)


def _importances(tried: pd.DataFrame, score: pd.Series, *, maximize: bool) -> dict[str, float]:
    """Return the share of the score's variance that each hyperparameter explains."""
    distributions: dict[str, BaseDistribution] = {str(name): _distribution(column) for name, column in tried.items()}
    with _quiet():
        study = optuna.create_study(direction="maximize" if maximize else "minimize")
        for (_, params), value in zip(tried.iterrows(), score, strict=True):
            trial = optuna.trial.create_trial(params=dict(params), distributions=distributions, value=value)
            study.add_trial(trial)
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in shares.items()}


def _distribution(values: pd.Series) -> BaseDistribution:
    """Return the range of what was tried, logarithmic if it spans more than a decade; of categories, their set."""
    if values.dtype != "float64":
        return CategoricalDistribution(sorted(values.unique()))
    low, high = float(values.min()), float(values.max())
    return FloatDistribution(low, high, log=low > 0 and math.log10(high / low) > 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's message about each study."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


FIGURE = FigureSpec(
    name="tuning",
    title="Which hyperparameters mattered in the search?",
    good="Neither high nor low is good: a hyperparameter that matters is one to tune with care.",
    data=data,
    plot=plot,
    note="Share of the score's variance that a hyperparameter explains (Optuna's fANOVA) over the range that was "
    "tried. With a dozen trials these are rough: read them as an order, not as numbers.",
)
