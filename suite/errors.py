"""Errors whose message is meant for the person at the command line."""

from collections.abc import Iterable


class UsageError(ValueError):
    """What was asked cannot be done: one line with the value, the rule and the known choices; exit code 2."""


def known(kind: str, name: str, choices: Iterable[str]) -> str:
    """Return the message for an unknown name.

    Args:
        kind: What was looked up, e.g. ``"study"``.
        name: The name that was not found.
        choices: The known names.

    Returns:
        One line that lists the choices in order.
    """
    return f"unknown {kind} {name!r}; known: {', '.join(sorted(choices))}"
