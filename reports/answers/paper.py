"""The paper's numbers beside those that a study measured."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.answers.measured import measured
from reports.comparable import GAIN, covers, dataset_of, published_as, relative
from reports.frames import Frames, remembered
from reports.published import LR, PERPLEXITY, TOP1, load, records

SAME = "same workload"
OTHER_BUDGET = "same workload, another budget or batch size: ratios only"
OTHER = "another workload: ratios only"
UNITS = {  # what stands beside each other where it is no ratio
    GAIN: "differences in points only",
    LR: "as they are",
}
ABSOLUTE = (TOP1, PERPLEXITY)  # of the workload, and of its budget
OF_THE_BUDGET = (*ABSOLUTE, GAIN)

STATISTICS = {
    "unstated": "unstated",
    "best_test": "best on the test split over training",
    "test_of_best_validation_model": "test of the best validation model",
}

COLUMNS = (
    text("quantity", "scale", "arm", "relative_to", "workload", "case")
    | counts("num_workers")
    | text("table", "comparison", "dataset", "network", "cutout", "pretrained", "optimizer")
    | numbers("published", "published_std", "measured", "measured_std", "measured_low", "measured_high")
    | counts("published_batch_size", "num_runs", "num_lost")
    | text("published_statistic", "measured_statistic", "trusted")
)

Row = dict[str, Any]


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row a published number and one of ours that it concerns, by quantity."""
    found = measured(frames)
    ours: dict[tuple[str, str, str], list[Row]] = {}
    for row in found:
        ours.setdefault(_key(row), []).append(row)
    pairs = [_cells(theirs, own) for theirs in _published() for own in ours.get(_key(theirs), ()) if _meet(theirs, own)]
    frame = frame_of([*pairs, *_unmeasured(found)], COLUMNS)
    order = frame["quantity"].map({name: place for place, name in enumerate(frame["quantity"].unique())})
    return frame.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


@cache
def _published() -> tuple[Row, ...]:
    """Return the published numbers that are measured too, and the relative ones."""
    kept = load()
    kept = kept[(kept["source"] == "paper") & kept["quantity"].isin((*ABSOLUTE, LR)) & kept["value"].notna()]
    both = pd.concat([kept.assign(relative_to=""), relative(load())])
    return tuple(records(both))


def _key(row: Row) -> tuple[str, str, str]:
    """Return what a published number and a measured one have to share."""
    return row["quantity"], published_as(row["arm"]), published_as(row["relative_to"])


def _meet(theirs: Row, own: Row) -> bool:
    """Return whether a published number concerns a measured one: of its workload, or of the kind of one of ours."""
    if theirs["comparison"] != own["comparison"] and own["quantity"] in OF_THE_BUDGET:
        return False
    if np.isfinite(theirs["num_workers"]) and theirs["num_workers"] != own["num_workers"]:
        return False
    if dataset_of(own["workload"]):
        return covers(theirs, own["workload"]) and (own["quantity"] not in ABSOLUTE or _scale(theirs, own) == SAME)
    is_alike = theirs["cutout"] in {"unstated", own["cutout"]} and theirs["pretrained"] == own["pretrained"]
    return own["quantity"] not in ABSOLUTE and theirs["kind"] == own["kind"] and is_alike


def _scale(theirs: Row, own: Row) -> str:
    """Return whether the two can be compared."""
    if not covers(theirs, own["workload"]):
        return OTHER
    if own["quantity"] not in OF_THE_BUDGET:
        return SAME
    is_same = all(theirs[name] == own[name] for name in ("budget_epochs", "batch_size"))
    return SAME if is_same else OTHER_BUDGET


def _words(scale: str, quantity: str) -> str:
    """Return what may be compared, in words."""
    return scale.replace("ratios only", UNITS.get(quantity, "ratios only"))


def _cells(theirs: Row, own: Row) -> Row:
    """Return a row of the table."""
    of_theirs = ("table", "comparison", "dataset", "network", "cutout", "pretrained", "optimizer")
    of_ours = ("quantity", "arm", "relative_to", "workload", "case", "num_workers", "num_runs", "num_lost", "trusted")
    estimate = own.get("estimate")
    return {
        **{name: theirs[name] for name in of_theirs},
        **{name: own.get(name) for name in of_ours},
        "scale": _words(_scale(theirs, own), own["quantity"]),
        "published_batch_size": theirs["batch_size"],
        "published": theirs["value"],
        "published_std": theirs["std"],
        "published_statistic": STATISTICS.get(theirs["statistic"], theirs["statistic"]),
        "measured_statistic": own.get("statistic"),
        **{
            f"measured{name and '_'}{name}": getattr(estimate, name or "mean", None)
            for name in ("", "std", "low", "high")
        },
    }


def _unmeasured(found: list[Row]) -> Iterator[Row]:
    """Yield the published numbers of a workload of the paper for which there is no arm, where there are others."""
    seen = {(row["quantity"], row["workload"], row["case"], row["num_workers"]): row for row in found}
    for own in seen.values():
        if not dataset_of(own["workload"]):
            continue
        alike = [row for row in found if (row["workload"], row["case"]) == (own["workload"], own["case"])]
        known = {_key(row) for row in alike}
        for theirs in _published():
            as_if = own | {"arm": theirs["arm"], "relative_to": theirs["relative_to"]}
            as_if |= dict.fromkeys(("estimate", "num_runs", "num_lost", "statistic", "trusted"))
            if theirs["quantity"] == own["quantity"] and _key(theirs) not in known and _meet(theirs, as_if):
                yield _cells(theirs, as_if)


ANSWER = Answer(
    name="paper",
    title="Published and measured",
    question="How do the measured numbers stand beside those that the paper has published?",
    table=table,
    note='"AdaFisher: Adaptive Second Order Optimization via Fisher Information", ICLR 2025. scale says what may be '
    "compared: numbers themselves only of the same workload, batch size and budget, which for a time is that of "
    "as many epochs of the same arm as the paper's (AdaFisher; on ImageNet Adam); of another workload, or another "
    "budget, only relative figures stand beside each other: the gain over Adam (AdamW for transformers) in "
    "points, epochs over those of AdaFisher, the time of an epoch over SGD's, throughput a worker over one "
    "worker's; learning rates stand as they are. An absolute number of one workload says nothing of another. "
    "Published: selected on the test split, as the paper has no validation split; two standard deviations printed "
    "as 03 and 02 are read as 0.3 and 0.2; Table 15 does not say whether it is with Cutout. Measured: test at the "
    "end, selected on validation. Published AdaFisher stands beside both of ours: adafisher, the paper's "
    "equations, and adafisher-released, the authors' code. Null where nothing was measured.",
)
