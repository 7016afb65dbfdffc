"""Where data sets lie, whether they are whole, and what is kept of them once they are decoded.

Data sets are looked for in ``$FISHERBENCH_DATA/<name>`` (default: ``~/.cache/fisherbench/data``) and where the system
has them. What is decoded is kept in ``$FISHERBENCH_CACHE`` (default: ``~/.cache/fisherbench/decoded``) and mapped into
memory from there, so that all workers of a machine share it. ``FISHERBENCH_OFFLINE=1`` forbids downloads; 0, or
nothing, allows them.
"""

import hashlib
import http.client
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from suite.errors import UsageError

CACHE_VERSION = 1  # raising it decodes everything anew


def data_folder() -> Path:
    """Return the folder of the user's data sets."""
    return _folder("DATA", "data")


def cache_folder() -> Path:
    """Return the folder of decoded data sets."""
    return _folder("CACHE", "decoded")


def _folder(variable: str, default: str) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fisherbench"
    path = Path(os.environ.get(f"FISHERBENCH_{variable}") or home / default)
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # ~somebody
        raise UsageError(f"{path} is no folder: {one_line(error)}; set FISHERBENCH_{variable} to one") from error


def locate(
    name: str,
    files: Sequence[str],
    *,
    advice: str,
    places: Sequence[str] = (),
    download: Callable[[Path], None] | None = None,
) -> Path:
    """Return the folder that holds a data set.

    Args:
        name: Of the data set, and of its folder in :func:`data_folder`.
        files: What the folder holds if it is whole, relative to it; a tuple's worth of alternatives is joined by ``|``.
        advice: How to get the data set, to follow a semicolon.
        places: Further folders to look in.
        download: Fills an empty folder that it is given, if the network allows; tried where nothing is found.

    Returns:
        The first folder with all files.

    Raises:
        UsageError: If there is none; it names what is lacking where only a part of the files is found.
    """
    mine = data_folder() / name
    folders = [mine, *map(Path, places)]
    found = _first_whole(folders, files)
    if found:
        return found
    for folder in folders:
        lacking = _lacking(folder, files)
        if len(lacking) < len(files):
            names = ", ".join(each.replace("|", " or ") for each in lacking)
            raise UsageError(f"the data set {name!r} in {folder} is not whole: it lacks {names}; {advice}")
    failure = ""
    if download is not None:
        failure = "FISHERBENCH_OFFLINE is set" if is_offline() else _download(mine, download)
        found = _first_whole(folders, files)  # even after a failure: another process may have been quicker
        if found:
            return found
        failure = f"; it cannot be downloaded: {failure or 'what came lacks files'}"
    looked = " and ".join(map(str, folders))
    raise UsageError(f"the data set {name!r} was not found in {looked}{failure}; {advice}, or set FISHERBENCH_DATA")


def is_offline() -> bool:
    """Return whether downloads are forbidden."""
    return os.environ.get("FISHERBENCH_OFFLINE", "") not in {"", "0"}


def _first_whole(folders: Sequence[Path], files: Sequence[str]) -> Path | None:
    return next((folder for folder in folders if not _lacking(folder, files)), None)


def _lacking(folder: Path, files: Sequence[str]) -> list[str]:
    return [file for file in files if not any(os.path.exists(folder / each) for each in file.split("|"))]


def _download(folder: Path, download: Callable[[Path], None]) -> str:
    """Download into a folder, whole or not at all, and return why it failed; empty if it did not."""
    try:
        with _beside(folder) as draft:
            draft.mkdir()
            download(draft)
            os.replace(draft, folder)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:  # what urllib and torchvision raise
        return one_line(error)
    return ""


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a path on the same disk, for a draft that takes the place of ``path`` in the end; removed if it is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        yield Path(folder) / path.name


def one_line(error: Exception) -> str:
    """Return what an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def verify(path: Path, md5: str) -> None:
    """Refuse a file that is not what its source published.

    Args:
        path: The file.
        md5: As published, hexadecimal.

    Raises:
        UsageError: If the file cannot be read, or its checksum differs: it is corrupt, or only half there.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}; get it again") from error
    if found != md5:
        raise UsageError(f"{path} is corrupt or half-downloaded: its MD5 is {found}, published is {md5}; get it again")


def cached(name: str, sources: Sequence[Path], build: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of a data set, decoded once and then mapped from a file.

    A file that cannot be read is made anew. Processes that make the same file at once each make the whole of it, and
    the last one's stays.

    Args:
        name: Of the data set and of how it is decoded.
        sources: The files that it is decoded from; a change of their sizes or times decodes it anew.
        build: Decodes it.

    Returns:
        What ``build`` returned; not to be written to.

    Raises:
        UsageError: If the cache cannot be written; nothing half-written is left.
    """  # noqa: DOC502
    stats = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sources]
    key = hashlib.sha256(repr((CACHE_VERSION, name, stats)).encode()).hexdigest()[:16]
    path = cache_folder() / f"{name}-{key}.pt"
    tensors = _mapped(path)
    if tensors is None:
        with _refusing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)  # to fail before the decoding, not after
        tensors = build()
        with _refusing(path.parent), _beside(path) as draft:
            torch.save(tensors, draft)
            os.replace(draft, path)
        tensors = _mapped(path) or tensors
    return tensors


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Raise ``UsageError`` where the cache cannot be written."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        raise UsageError(
            f"the cache {folder} cannot be written: {one_line(error)}; set FISHERBENCH_CACHE to a folder that can"
        ) from error


def _mapped(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file, mapped; ``None`` if there is none, or it is not whole."""
    try:
        tensors: dict[str, Tensor] = torch.load(path, mmap=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        return None
    is_table = isinstance(tensors, dict) and all(isinstance(each, Tensor) for each in tensors.values())
    return tensors if is_table else None
