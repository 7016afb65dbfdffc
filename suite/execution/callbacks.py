"""Callbacks of Ray Tune that a user wants called for each trial: TensorBoard, MLflow, Weights & Biases, or others."""

import importlib
import os
from typing import Any

from suite.errors import UsageError

VARIABLE = "FISHERBENCH_CALLBACKS"


def find_callbacks() -> list[Any]:
    """Return the callbacks that the environment variable ``FISHERBENCH_CALLBACKS`` names.

    Returns:
        Instances; of a class, or of anything else that can be called, what it returns without arguments.

    Raises:
        UsageError: If one cannot be imported or made.
    """  # noqa: DOC502
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return [_make(name) for name in names if name]


def _make(name: str) -> Any:  # noqa: ANN401
    module, colon, attribute = name.partition(":")
    try:
        if not colon:
            raise ValueError("it reads module:NAME, e.g. ray.tune.logger:TBXLoggerCallback")
        found = getattr(importlib.import_module(module), attribute)
        return found() if callable(found) else found
    except Exception as error:  # whatever a user's module raises
        raise UsageError(f"{VARIABLE}={name!r} is no callback: {error}") from error
