"""Set single fields of a study from text, as ``--set`` does."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import optimizers
from suite.config import Arm, Budget
from suite.errors import UsageError, known


def override(value: Any, assignment: str) -> Any:  # noqa: ANN401
    """Return a copy of a study, or of a part of it, with one field set from text.

    Args:
        value: A study, or any dataclass in it.
        assignment: ``field=value``; a field of a part is written ``race.seeds=1,2,3``.

    Returns:
        The copy.

    Raises:
        UsageError: If there is no such field, or the value is none of its kind.
    """
    path, equals, text = assignment.partition("=")
    name, _, rest = path.partition(".")
    names = [f.name for f in fields(value) if f.name not in {"name", "paper"}]
    if not equals or name not in names:
        raise UsageError(f"{known('field', path, names)}; write --set field=value")
    current = getattr(value, name)
    if rest:
        if not is_dataclass(current):
            raise UsageError(f"the field {name!r} has no parts, but got {path!r}")
        return replace(value, **{name: override(current, f"{rest}={text}")})
    return replace(value, **{name: _parse(name, current, text)})


def _parse(name: str, current: Any, text: str) -> Any:  # noqa: ANN401
    """Read ``text`` as the kind of value that ``current`` is."""
    try:
        if name == "arms":
            return tuple(_arm(current, part.strip()) for part in text.split(","))
        if isinstance(current, tuple):
            return tuple(type(current[0])(part.strip()) for part in text.split(","))
        if name == "transfer_from":
            return text
        if isinstance(current, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(current, Budget):
            return Budget.parse(text)
        if isinstance(current, int | float | str):
            return type(current)(text)
    except (ValueError, KeyError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the field {name!r} is a {type(current).__name__}, but got {text!r}") from error
    raise UsageError(f"the field {name!r} cannot be set as a whole; set one of its parts, e.g. {name}.…=…")


def _arm(arms: tuple[Arm, ...], name: str) -> Arm:
    """Return the study's arm of this name, else the registered optimizer of this name as an arm."""
    for arm in arms:
        if arm.name == name:
            return arm
    if name in optimizers.REGISTRY:
        return Arm(name=name, optimizer=name)
    raise UsageError(known("arm", name, {*(a.name for a in arms), *optimizers.REGISTRY}))
