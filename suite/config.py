"""What a run is: budget, schedule, arm, and the run itself, whose hash is its identity.

Everything here is frozen, picklable and JSON-serialisable, so that a plan can be stored, sent to a worker and compared.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from optimizers import Categorical, Float
from suite.errors import UsageError

Purpose = Literal["tune", "race", "calibrate", "profile", "pretrain", "single"]
Source = Literal["sampled", "winner", "default", "transferred", "fixed", "placebo", "control"]
Isolation = Literal["shared", "machine", "process"]
TOLD = ("default", "transferred", "placebo", "control")  # sources that are part of what an entry is called

# One generation of identities: raising it makes every planned run a new one. Fields of Run that were added later count
# only where they are not what they were before they could be chosen, so that stored runs keep their identity.
IDENTITY_VERSION = 1
_ADDED_LATER = {
    "pruner": None,
    "gpus_per_worker": 1.0,
    "case": "",
    "initial_weights": None,
    "isolation": "shared",
    "diagnostics": (),
}

_BUDGET_UNITS = {
    "s": ("wall_clock", 1.0),
    "min": ("wall_clock", 60.0),
    "h": ("wall_clock", 3600.0),
    "epochs": ("epochs", 1.0),
    "steps": ("steps", 1.0),
}
_BUDGET_TEXT = re.compile(
    r"(?P<amount>[0-9.eE+-]+?)\s*(?P<unit>[a-z]+)(?:\s+of\s+(?P<reference>\S+?))?(?:,\s*(?P<mode>\w+))?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """When a run stops.

    Args:
        kind: ``epochs``, ``steps``, ``wall_clock`` (seconds of training time), or ``wall_clock_of``: the time that the
            arm ``reference`` needs for ``amount`` epochs, as in the paper.
        amount: Epochs, steps or seconds; > 0.
        reference: Name of the arm, for ``wall_clock_of`` only.
        mode: Of a time: ``calibrated`` turns it into a step count by what a step of this arm costs alone on the
            machine; ``live`` lets the running clock decide.

    Raises:
        UsageError: If a field breaks its rule.
    """

    kind: Literal["epochs", "steps", "wall_clock", "wall_clock_of"]
    amount: float
    reference: str | None = None
    mode: Literal["calibrated", "live"] = "calibrated"

    def __post_init__(self) -> None:
        if self.kind not in {"epochs", "steps", "wall_clock", "wall_clock_of"}:
            raise UsageError(f"budget kind must be epochs, steps, wall_clock or wall_clock_of, but got {self.kind!r}")
        if not 0 < self.amount < float("inf"):
            raise UsageError(f"a budget must be > 0 and finite, but got {self.amount}")
        if self.kind == "steps" and self.amount != int(self.amount):
            raise UsageError(f"a budget in steps must be a whole number, but got {self.amount}")
        if (self.kind == "wall_clock_of") != (self.reference is not None):
            raise UsageError(
                f"a reference arm goes with wall_clock_of alone, but got {self.reference!r} with {self.kind}"
            )
        if self.mode not in {"calibrated", "live"}:
            raise UsageError(f"budget mode must be calibrated or live, but got {self.mode!r}")
        if self.mode == "live" and not self.is_time:
            raise UsageError(f"live goes with a budget that is a time, but got {self.amount:g} {self.kind}, live")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a budget as people write it.

        Args:
            text: ``12s``, ``2min``, ``1h``, ``5 epochs``, ``300 steps``, ``5 epochs of adafisher``; a time may end in
                ``, live``.

        Returns:
            The budget.

        Raises:
            UsageError: If the text is no budget.
        """
        match = _BUDGET_TEXT.fullmatch(text.strip())
        if match is None or match["unit"] not in _BUDGET_UNITS:
            raise UsageError(
                f"a budget reads like 12s, 2min, '5 epochs', '300 steps' or '5 epochs of adafisher', but got {text!r}"
            )
        kind, scale = _BUDGET_UNITS[match["unit"]]
        if match["reference"]:
            if kind != "epochs":
                raise UsageError(f"the time of a reference arm is given in its epochs, but got {text!r}")
            kind = "wall_clock_of"
        try:
            amount = float(match["amount"]) * scale
        except ValueError as error:
            raise UsageError(f"{match['amount']!r} in the budget {text!r} is not a number") from error
        mode = match["mode"] or "calibrated"
        return cls(kind=kind, amount=amount, reference=match["reference"], mode=mode)  # type: ignore[arg-type]

    @property
    def is_time(self) -> bool:
        """Whether the budget is a time."""
        return self.kind in {"wall_clock", "wall_clock_of"}

    @property
    def is_calibrated(self) -> bool:
        """Whether the budget is a time that a calibration turns into steps."""
        return self.is_time and self.mode == "calibrated"

    def __str__(self) -> str:
        amount = f"{self.amount:.15g}"
        texts = {"wall_clock": f"{amount}s", "wall_clock_of": f"{amount} epochs of {self.reference}"}
        text = texts.get(self.kind, f"{amount} {self.kind}")
        return f"{text}, {self.mode}" if self.is_time else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Learning rate as a function of the fraction of the budget that is used.

    Args:
        name: ``constant``, ``cosine`` (to 0) or ``step`` (x 0.1 at 1/2 and at 3/4).
        warmup_frac: Fraction of the budget over which the rate first rises linearly from 0; in [0, 1).

    Raises:
        UsageError: If a field breaks its rule.
    """

    name: Literal["constant", "cosine", "step"] = "cosine"
    warmup_frac: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in {"constant", "cosine", "step"}:
            raise UsageError(f"a schedule must be constant, cosine or step, but got {self.name!r}")
        if not 0 <= self.warmup_frac < 1:
            raise UsageError(f"warmup_frac must be in [0, 1), but got {self.warmup_frac}")

    def __str__(self) -> str:
        return self.name if not self.warmup_frac else f"{self.name}, warm-up {self.warmup_frac:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One optimizer configuration compared in a study.

    Args:
        name: As the report calls it.
        optimizer: Name in the registry, ``package.module.Class``, or ``package.module:SPEC``.
        fixed: Hyperparameters that this arm sets for all its runs.
        search_space: What a sweep searches; ``None``: what the optimizer declares.
    """

    name: str
    optimizer: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    search_space: Mapping[str, Float | Categorical] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training, as planned: workload, arm, seed, budget, workers.

    Sampled hyperparameters are not part of the plan and not of the identity; where they come from is.

    Args:
        study: Name of the study.
        workload: Name of the workload, or ``package.module:SPEC``.
        arm: The optimizer configuration.
        purpose: Why it is run.
        seed: Of initialization, data order and model randomness; paired over the arms.
        budget: When it stops.
        batch_size: Samples a step over all workers.
        source: Where the hyperparameters come from: sampled by a sweep, the sweep's winner, the optimizer's defaults,
            the winner on another workload, or fixed by the arm. A ``placebo`` takes the steps of its arm without the
            curvature, a ``control`` is its arm once more.
        case: Name of the conditions that tell it from others of the study; empty where all are alike.
        trial: Number within the sweep of this arm.
        sampler: What proposes the hyperparameters, where they are sampled.
        pruner: What may stop the run early, where something may.
        num_workers: Data-parallel workers; divides ``batch_size``.
        num_threads: CPU threads of each worker.
        gpus_per_worker: Share of a GPU that each worker gets, or several; in use where there are GPUs.
        schedule: Of the learning rate.
        splits: ``standard``, or ``paper``: train on training and validation data, watch the test split.
        sync_batchnorm: Whether BatchNorm takes its statistics over all workers.
        stop_at_target: Whether it ends at the first evaluation that meets the workload's target.
        data_version: What tells the workload's data from others of the same name; ``None`` where the name says it all.
        initial_weights: Run id of the training whose weights it begins with; ``None``: random ones.
        isolation: ``shared``: beside others, as many as there is room for; ``machine``: alone on its machine, so that
            its times can be compared; ``process``: in a process of its own, so that its memory can.
        diagnostics: What is measured while it trains, by name.

    Raises:
        UsageError: If a field breaks its rule.
    """

    study: str
    workload: str
    arm: Arm
    purpose: Purpose
    seed: int
    budget: Budget
    batch_size: int
    source: Source = "fixed"
    trial: int | None = None
    sampler: str | None = None
    pruner: str | None = None
    num_workers: int = 1
    num_threads: int = 1
    gpus_per_worker: float = 1.0
    schedule: Schedule = Schedule()
    splits: Literal["standard", "paper"] = "standard"
    sync_batchnorm: bool = False
    stop_at_target: bool = False
    data_version: str | None = None
    case: str = ""
    initial_weights: str | None = None
    isolation: Isolation = "shared"
    diagnostics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("num_workers", "num_threads", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name} must be >= 1, but got {value}")
        if self.batch_size % self.num_workers:
            raise UsageError(
                f"batch_size must be a multiple of num_workers, but got {self.batch_size} and {self.num_workers}"
            )
        if not 0 < self.gpus_per_worker < float("inf"):
            raise UsageError(f"gpus_per_worker must be > 0, but got {self.gpus_per_worker}")
        if self.gpus_per_worker > 1 and self.gpus_per_worker != int(self.gpus_per_worker):
            raise UsageError(f"gpus_per_worker above 1 must be a whole number, but got {self.gpus_per_worker}")
        if self.splits not in {"standard", "paper"}:
            raise UsageError(f"splits must be standard or paper, but got {self.splits!r}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"a seed must be in [0, 2**63), but got {self.seed}")

    @property
    def label(self) -> str:
        """Name of what is compared: the arm, and where its hyperparameters come from if not from its own sweep."""
        return f"{self.arm.name} ({self.source})" if self.source in TOLD else self.arm.name

    @property
    def run_id(self) -> str:
        """Hash of the plan: 16 hexadecimal digits, the same in every process and on every machine."""
        fields = asdict(self)
        for name, value in _ADDED_LATER.items():
            if fields[name] == value:
                del fields[name]
        plan = json.dumps([IDENTITY_VERSION, _canonical(fields)], sort_keys=True)
        return hashlib.sha256(plan.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:  # noqa: ANN401
    """Return a plan in which equal numbers are written alike: 4.0 as 4."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
