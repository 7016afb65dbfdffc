"""Trajectories through the loss of a two-layer perceptron on Iris in two components (Figs 1, 13; App. C)."""

from studies.recipes import DIGITS, NAMES, arms, epochs
from suite.study import Case, Race, Study

PUBLISHED = Case(name="as published", hyperparameters={"lr": 1e-3}, budget=epochs(20))
RACE = Race(
    budget=epochs(2500),
    diagnostics=("trajectory", "loss_plane"),
    cases=(PUBLISHED, Case(name="to the end")),
)

STUDY = Study(
    name="trajectories",
    question="Which way does each optimizer take from the same start, and does it end in the same place?",
    workload="iris",
    arms=arms(DIGITS, *NAMES),
    batch_size=30,
    race=RACE,
    answers=("trajectories", "standings"),
    paper={"race": RACE},  # it is a small study in the paper too
)
