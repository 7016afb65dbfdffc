"""How long results take to load and to report, and how that grows with the runs."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from reports.frames import prepare
from reports.page import render
from suite.results import TABLES, Store, load
from suite.results.schema import arrow_schema
from suite.results.store import _to_parquet
from tests.reports.synthetic import study

SIZES = (100, 1_000, 10_000)
NUM_EPOCHS = 100  # evaluations a run
NUM_UNFOLDED = 500
ROUNDS = 3  # of which the median is told
TARGETS = {"runs": 2.0, "epochs": 4.0, "runs, unfolded": 5.0, "epochs, unfolded": 7.0, "report": 15.0}  # seconds
NUM_REPORTED = 1_000


def run(num_pairs: int, device: str, names: list[str]) -> None:
    """Print two tables: loading by the number of runs, and the report of a study of 1,000 runs."""
    del num_pairs, device, names
    print(f"Seconds to load, {NUM_EPOCHS} evaluations a run, all folded; then with {NUM_UNFOLDED} runs that are not")
    print("| runs | load().runs | load().epochs | .runs, unfolded | .epochs, unfolded |")
    print("|---|---|---|---|---|")
    found = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as place:
            found = _loading(Path(place), size)
        print(f"| {size:,} | {' | '.join(f'{seconds:.2f}' for seconds in found.values())} |", flush=True)
    _judge({name: seconds for name, seconds in found.items() if name in TARGETS})
    _report()


def _loading(place: Path, size: int) -> dict[str, float]:
    """Return the seconds of each way to load that many runs."""
    store = Store(place / "results", "bench")
    store.create()
    template = study(num_trials=0)
    _write_folded(store, template, size)
    folded = {name: _median(lambda name=name: getattr(load(store.uri), name)) for name in ("runs", "epochs")}
    _write_unfolded(store, template, size)
    unfolded = {f"{n}, unfolded": _median(lambda n=n: getattr(load(store.uri), n)) for n in ("runs", "epochs")}
    shutil.rmtree(place / "results")
    return folded | unfolded


def _write_folded(store: Store, template: object, size: int) -> None:
    """Write the folded tables of a study that has the same run again and again."""
    tables = _repeated(template, [f"{number:016x}" for number in range(size)])
    for name in TABLES:
        schema = arrow_schema(name)
        table = pa.Table.from_pandas(tables[name], schema=schema, preserve_index=False) if name in tables else None
        content = _to_parquet((schema.empty_table() if table is None else table).replace_schema_metadata(None))
        store.folder.write(f"tables/{name}.parquet", content)


def _write_unfolded(store: Store, template: object, size: int) -> None:
    """Write runs that are not folded yet, one file each."""
    tables = _repeated(template, ["0"])
    row = {name: value for name, value in tables["runs"].iloc[0].items() if pd.notna(value)}
    points = tables["epochs"].drop(columns=["run_id", "attempt"]).to_dict("records")
    epochs = [{name: value for name, value in point.items() if pd.notna(value)} for point in points]
    for number in range(size, size + NUM_UNFOLDED):
        store.write(row | {"run_id": f"{number:016x}", "attempt": 1}, {"epochs": epochs})


def _repeated(template: object, run_ids: list[str]) -> dict[str, pd.DataFrame]:
    """Return runs and epochs of as many runs as there are ids, filled as a race fills them, no two numbers alike."""
    runs: pd.DataFrame = template.runs  # type: ignore[attr-defined]
    epochs: pd.DataFrame = template.epochs  # type: ignore[attr-defined]
    race = runs[runs["purpose"] == "race"].reset_index(drop=True)
    whole = race.loc[np.arange(len(run_ids)) % len(race)].reset_index(drop=True)
    real = [c.name for c in TABLES["runs"] if c.type == pa.float64() and c.name in whole]
    noise = np.random.default_rng(0).normal(1.0, 0.01, size=(len(whole), len(real)))
    whole = whole.assign(**(whole[real].astype("float64") * noise)).assign(run_id=run_ids, seed=range(len(run_ids)))
    curve = epochs[epochs["run_id"] == race["run_id"].iloc[0]].head(NUM_EPOCHS)
    curve = curve.iloc[np.arange(NUM_EPOCHS) % len(curve)]
    points = pd.concat([curve] * len(run_ids), ignore_index=True)
    points = points.assign(run_id=np.repeat(run_ids, NUM_EPOCHS), step=np.tile(np.arange(NUM_EPOCHS), len(run_ids)))
    columns = {name: [column.name for column in TABLES[name]] for name in ("runs", "epochs")}
    return {
        "runs": whole.reindex(columns=columns["runs"]),
        "epochs": points.reindex(columns=columns["epochs"]).assign(
            val_loss=np.random.default_rng(0).normal(size=len(points))
        ),
    }


def _report() -> None:
    """Print how long the report of a study takes, by its runs."""
    print("\nSeconds to write the report of a study: four arms, trials and races half and half")
    print("| runs | seconds | megabytes |")
    print("|---|---|---|")
    seconds = 0.0
    for size in (100, NUM_REPORTED):
        tables = study(num_seeds=size // 8, num_trials=size // 8)
        start = time.perf_counter()
        html = render(prepare(tables), title="Benchmark")
        seconds = time.perf_counter() - start
        print(f"| {len(tables.runs):,} | {seconds:.1f} | {len(html.encode()) / 1e6:.1f} |", flush=True)
    _judge({"report": seconds})


def _median(action: Callable[[], object]) -> float:
    """Return the median of the seconds that an action takes."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[ROUNDS // 2]


def _judge(found: dict[str, float]) -> None:
    """Print whether targets are met."""
    for name, seconds in found.items():
        verdict = "met" if seconds <= TARGETS[name] else f"missed by {seconds - TARGETS[name]:.1f} s"
        print(f"target {name} {TARGETS[name]:g} s: {verdict}")
    sys.stdout.flush()
