"""For every figure a study on which it draws, with which the tests that range over the registry draw it."""

from collections.abc import Iterable

import numpy as np

from reports.frames import Frames, prepare
from tests.reports.measured import remembered, scaled
from tests.reports.synthetic import array_of, case_of, cases, frames_of, metrics_of, study

WHOLE = prepare(study())
CASES = prepare(cases())


def curvature() -> Frames:
    """Return two arms of two seeds with everything that diagnostics find, halfway and at the end."""
    runs = case_of("", {"adam": [0.90, 0.92], "adafisher": [0.91, 0.93]}, num_steps=200)
    metrics, arrays = [], []
    for run_id in (row["run_id"] for row in runs):
        for step in (100, 200):
            metrics += metrics_of(run_id, dict(_numbers(step / 200)), step)
            arrays += [row for name, values in _arrays(step / 200) for row in array_of(run_id, name, values, step)]
    return frames_of(runs=runs, metrics=metrics, arrays=arrays)


def _numbers(share: float) -> Iterable[tuple[str, float]]:
    """Yield what a diagnostic says in one number."""
    yield "trajectory/loss", 1.0 - share / 2
    for measure in ("relative_error", "cosine", "rank_correlation"):
        yield f"fisher_accuracy/exact/{measure}", share / 2
    for factor in ("H", "S"):
        for quantity in ("diagonal_share", "discs_excluding_0", "snr_db"):
            yield f"kronecker_structure/last_linear/{factor}/{quantity}", share / 3


def _arrays(share: float) -> Iterable[tuple[str, np.ndarray]]:
    """Yield what a diagnostic says in an array."""
    axis = np.linspace(-3, 3, 21)
    yield "trajectory/weights", np.array([share, -share])
    yield "loss_plane/axis", axis
    yield "loss_plane/loss", axis[:, None] ** 2 + axis[None, :] ** 2
    yield "fisher_histogram/edges", np.logspace(-6, 0, 13)
    yield "fisher_histogram/last_linear/true", np.array([0.0, *range(12), 0.0])
    yield "kronecker_structure/last_linear/S/gershgorin_center", np.array([1.0, 2.0, 3.0])
    yield "kronecker_structure/last_linear/S/gershgorin_radius", np.array([0.5, 0.5, 4.0])


OTHERS = {  # where the default study has nothing to show
    "placebo": CASES,
    "profiles": CASES,
    "axes": CASES,
    "time_split": CASES,
    "ledger": remembered(),
    "memory_growth": remembered(),
    "scaling": scaled({1: [1.0, 1.1, 0.9], 2: [0.6, 0.65, 0.55]}),
    "projection": scaled({1: [1.0, 1.1, 0.9], 2: [0.6, 0.65, 0.55]}),
    **dict.fromkeys(("kronecker", "fisher_accuracy", "fisher_histograms", "trajectories"), curvature()),
}


def frames_for(name: str) -> Frames:
    """Return a study on which a figure draws; of its parts the first is enough."""
    return OTHERS.get(name, WHOLE)
