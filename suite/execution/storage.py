"""Where Ray Tune and Ray Train keep files of their own, which nobody needs to read: what is done is in the store."""

import os
from pathlib import Path
from typing import Any

from suite.execution.callbacks import find_callbacks
from suite.results import Store

FOLDER = "ray"


def storage_of(store: Store, scratch: Path) -> dict[str, Any]:
    """Return what ``RunConfig`` of Tune and of Train has to be told.

    Args:
        store: The results.
        scratch: On this machine, removed in the end.

    Returns:
        Keyword arguments. On a running Ray, whose nodes all have to reach the place, and where a user's callbacks write
        logs, it is the folder ``ray`` of the results; else it is the scratch directory.
    """
    if os.environ.get("RAY_ADDRESS") or find_callbacks():
        return {"storage_path": store.folder.path(FOLDER), "storage_filesystem": store.folder.filesystem}
    return {"storage_path": str(scratch / "runs")}


def clear_storage(store: Store) -> None:
    """Remove what Ray has left in the results, unless a user's callbacks write there.

    Args:
        store: The results.
    """
    if not find_callbacks():
        store.folder.remove_folder(FOLDER)
