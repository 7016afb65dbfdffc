"""The command ``fisherbench``: makes sure that the packages it is about to import are its own, then runs it.

The import packages have everyday names. A folder of such a name in a user's project may come first on the path and be
imported instead; that is said in one line here, rather than failing somewhere inside.
"""

import importlib.util
import sys
import warnings
from pathlib import Path

PACKAGES = ("optimizers", "suite", "studies", "reports")


def shadowed(root: Path, packages: tuple[str, ...] = PACKAGES) -> str | None:
    """Tell whether another package would be imported in the place of one of ours.

    Args:
        root: The folder that holds ours.
        packages: Their names.

    Returns:
        One line that says which and what to do, or ``None`` if all are ours.
    """
    for name in packages:
        spec = importlib.util.find_spec(name)
        ours = root / name / "__init__.py"
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
            found = (
                "nothing" if spec is None else spec.origin or list(spec.submodule_search_locations or ["nothing"])[0]
            )
            return (
                f"the package {name!r} should be {ours.parent}, but Python finds {found} first: "
                "rename that folder, take it off PYTHONPATH, or start fisherbench elsewhere"
            )
    return None


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    """Return a warning as a person reads it: what it says, not which line of code says it."""
    return f"fisherbench: warning: {' '.join(str(message).split())}\n"


def main() -> int:
    """Run the command.

    Returns:
        Exit code.
    """
    problem = shadowed(Path(__file__).resolve().parent)
    if problem:
        print(f"fisherbench: {problem}", file=sys.stderr)
        return 2
    warnings.formatwarning = _one_line
    from suite.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
