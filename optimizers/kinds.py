"""What a hyperparameter may be, as a constructor's annotation says: numbers, texts, switches, sequences of them."""

import inspect
import json
import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", types.NoneType: "null"}


def kind_of(parameter: inspect.Parameter) -> Any:  # noqa: ANN401
    """Return the kind of a keyword.

    Args:
        parameter: Of a signature; its annotation is evaluated.

    Returns:
        Its annotation, or without one what its default says; ``None`` if JSON cannot hold it.
    """
    default = parameter.default
    items = default if isinstance(default, tuple) else [default]
    if not all(item is None or isinstance(item, bool | int | float | str) for item in items):
        return None
    if parameter.annotation is not parameter.empty:
        return parameter.annotation if {*_choices(parameter.annotation)} - {types.NoneType} else None
    if isinstance(default, tuple):
        return tuple[bool | float | str | None, ...]
    if default is None:
        return bool | float | str | tuple[float, ...] | None
    return float if type(default) is int else type(default)


def read(value: object, kind: Any) -> object:  # noqa: ANN401
    """Return a value as a constructor takes it.

    Args:
        value: A hyperparameter; a sequence may be a text, ``0.9,0.99`` or ``(0.9, 0.99)``.
        kind: What it may be.

    Returns:
        The value, a sequence as a tuple.
    """
    choices = _choices(kind)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and str not in choices and any(map(_is_sequence, choices)):
        try:
            return tuple(json.loads(f"[{value.strip('()[]')}]"))
        except ValueError:
            return value
    return value


def fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    """Return whether a value, as :func:`read` gives it, is of a kind."""
    return any(_is_one(value, choice) for choice in _choices(kind))


def has_reals(kind: Any) -> bool:  # noqa: ANN401
    """Return whether a kind allows real numbers, or sequences of them."""
    return kind is float or any(map(has_reals, get_args(kind)))


def words(kind: Any) -> str:  # noqa: ANN401
    """Return what a value of a kind is, to follow "must be"."""
    return " or ".join(map(_word, _choices(kind)))


def _choices(kind: Any) -> list[Any]:  # noqa: ANN401
    """Return the members of a union, those that JSON can hold."""
    members = get_args(kind) if get_origin(kind) in {Union, types.UnionType} else (kind,)
    members = tuple(types.NoneType if each is None else each for each in members)
    return [each for each in members if each in _WORDS or _is_sequence(each) or get_origin(each) is Literal]


def _is_sequence(choice: Any) -> bool:  # noqa: ANN401
    return get_origin(choice) in {tuple, Sequence}


def _is_open(choice: Any) -> bool:  # noqa: ANN401
    return get_origin(choice) is Sequence or get_args(choice)[-1] is Ellipsis


def _is_one(value: object, choice: Any) -> bool:  # noqa: ANN401
    items = get_args(choice)
    if get_origin(choice) is Literal:
        return value in items
    if _is_sequence(choice):
        if not isinstance(value, tuple):
            return False
        if _is_open(choice):
            return all(fits(item, items[0]) for item in value)
        return len(value) == len(items) and all(map(fits, value, items))
    if choice in {int, float}:
        return isinstance(value, int | choice) and not isinstance(value, bool) and value == value  # noqa: PLR0124
    return isinstance(value, choice)


def _word(choice: Any) -> str:  # noqa: ANN401
    items = get_args(choice)
    if get_origin(choice) is Literal:
        return " or ".join(map(repr, items))
    if _is_sequence(choice):
        return f"({words(items[0])}, …)" if _is_open(choice) else f"({', '.join(map(words, items))})"
    return _WORDS[choice]
