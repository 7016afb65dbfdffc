"""What of the published numbers can stand beside measured ones: relative figures, and which workload each concerns."""

import math
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from reports.published import (
    CNN,
    COLUMNS,
    DATASETS,
    EPOCH_S,
    EPOCHS,
    GPT,
    MINUTES,
    NETWORKS,
    TOP1,
    VIT,
    Row,
    network_of,
    records,
)

GAIN = "gain in top-1 accuracy (points)"
EPOCHS_RATIO = "epochs in the same time, relative"
TIME_RATIO = "time of the same epochs, relative"
EFFICIENCY = "weak-scaling efficiency"

ONE_WORKER = "1 worker"
BASES = {CNN: ("adam", "adafisher"), VIT: ("adamw", "adafisherw"), GPT: ("adamw", "adafisherw")}
OURS = {  # kinds of the workloads that are not the paper's; those without a kind are like none of its networks
    "digits": CNN,
    "digits_cutout": CNN,
    "mnist_cnn": CNN,
    "fashion_mnist_resnet8": CNN,
    "fashion_mnist_vit": VIT,
    "pydoc_gpt": GPT,
}

_ALIKE = ["network", "kind", "cutout", "pretrained", "comparison"]  # of a number and the one that it is relative to
_RELATIVE: dict[str, tuple[str, Callable[[Row], str], Callable[[Row, Row], float]]] = {
    TOP1: (GAIN, lambda row: BASES[row["kind"]][0], lambda row, base: row["value"] - base["value"]),
    EPOCHS: (EPOCHS_RATIO, lambda row: BASES[row["kind"]][1], lambda row, base: row["value"] / base["value"]),
    MINUTES: (TIME_RATIO, lambda row: "sgd", lambda row, base: row["value"] / base["value"]),
    EPOCH_S: (
        EFFICIENCY,
        lambda row: ONE_WORKER,
        lambda row, base: base["value"] / (row["num_workers"] / base["num_workers"] * row["value"]),
    ),
}


def relative(published: pd.DataFrame) -> pd.DataFrame:
    """Return the figures that can stand beside those of another workload, from the paper's own numbers.

    Args:
        published: As :func:`reports.published.load` returns it.

    Returns:
        Its columns and ``relative_to``, an arm or ``1 worker``: gains over Adam (AdamW for transformers), epochs over
        AdaFisher's (AdaFisherW's), time over SGD's, throughput of a worker over that of one alone. Without what is
        relative to itself. No standard deviations: the paper does not say how its seeds are paired.
    """
    own = published[(published["source"] == "paper") & published["value"].notna()]
    own = own[(own["table"] != "Table 3") | (own["batch_size"] == 256)]  # AdaFisher alone has others
    rows = []
    for quantity, (name, base_of, formula) in _RELATIVE.items():
        of_one = records(own[own["quantity"] == quantity])
        for row in of_one:
            base = _base(of_one, row, base_of(row))
            if base is None or (base["arm"], base["value"]) == (row["arm"], row["value"]):
                continue
            of_it = {"quantity": name, "relative_to": base_of(row), "value": formula(row, base), "std": math.nan}
            rows.append(row | of_it)
    return pd.DataFrame(rows, columns=[*COLUMNS, "relative_to"])


def published_as(arm: str) -> str:
    """Return the arm whose published numbers one of ours stands beside: both of AdaFisher's numerics have the same."""
    return arm.replace("_", "-").removesuffix("-released")


def kind_of(workload: str) -> str:
    """Return the kind of a workload's network: CNN, ViT or GPT; empty if it is like none of the paper's."""
    if workload in OURS or not dataset_of(workload):
        return OURS.get(workload, "")
    return next((kind for name, kind in NETWORKS.values() if re.search(rf"_{name}(_|$)", workload)), "")


def dataset_of(workload: str) -> str:
    """Return the paper's data set that a workload has, as printed; empty if it has none of them."""
    return next((printed for printed, name in DATASETS.items() if workload.startswith(f"{name}_")), "")


def covers(row: Row, workload: str) -> bool:
    """Return whether a published number is one of this workload.

    Args:
        row: A row of :func:`reports.published.load`.
        workload: A name of ours.

    Returns:
        Where several workloads have the number: whether this is one of them.
    """
    if row["workload"]:
        return bool(row["workload"] == workload)
    is_of_its_data = dataset_of(workload) in row["dataset"].split(", ")
    is_of_its_network = not row["network"] or f"_{network_of(row['network'])[0]}" in workload
    is_pretrained = workload.endswith("_pretrained")
    is_of_its_start = (row["pretrained"] == "yes") == is_pretrained
    return is_of_its_data and is_of_its_network and is_of_its_start and kind_of(workload) == row["kind"]


def _base(rows: list[dict[str, Any]], row: Row, arm: str) -> dict[str, Any] | None:
    """Return the row of the same quantity that another is relative to."""
    if arm == ONE_WORKER:
        return min(rows, key=lambda other: float(other["num_workers"]))
    keys = [*_ALIKE, *([] if row["quantity"] == EPOCHS else ["table"])]  # section D.2.5 goes on with Table 8
    dataset = row["dataset"].split(", ")[0]
    alike = (other for other in rows if other["arm"] == arm and all(other[key] == row[key] for key in keys))
    return next((other for other in alike if dataset in other["dataset"].split(", ")), None)
