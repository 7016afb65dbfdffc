"""A directory on a local disk or an object store, whose files appear whole or not at all."""

import os
from contextlib import suppress
from pathlib import PurePosixPath

from pyarrow import fs

from suite.errors import UsageError

TEMPORARY = ".tmp"  # how the names of files end that are being written


class MissingError(UsageError):
    """A file is not there, or not any more."""


class Folder:
    """A directory, local or on any ``pyarrow.fs`` URI.

    Args:
        uri: A local path or a URI.

    Raises:
        UsageError: If it is neither.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs: fs.FileSystem = fs.LocalFileSystem()
        self._root = os.path.abspath(uri)
        if "://" in uri:
            try:
                self._fs, self._root = fs.FileSystem.from_uri(uri)
            except (OSError, ValueError) as error:
                raise UsageError(f"{uri!r} is not a URI that pyarrow.fs can open: {_one_line(error)}") from error

    @property
    def is_local(self) -> bool:
        """Whether it is on a local file system."""
        return isinstance(self._fs, fs.LocalFileSystem)

    @property
    def filesystem(self) -> fs.FileSystem:
        """The file system that it is on."""
        return self._fs

    def path(self, name: str = "") -> str:
        """Return a path inside the directory.

        Args:
            name: Below the root.

        Returns:
            As the file system spells it.
        """
        return str(PurePosixPath(self._root, name))

    def shown(self, name: str = "") -> str:
        """Return a path inside the directory as people know it.

        Args:
            name: Below the root.

        Returns:
            The path on a local disk; else a URI without what a person need not, or must not, see: keys and options.
        """
        return self.path(name) if self.is_local else f"{self.uri.partition('://')[0]}://{self.path(name)}"

    def names(self, folder: str = "", suffix: str = "") -> list[str]:
        """List the files of a folder.

        Args:
            folder: Below the root.
            suffix: How their names end.

        Returns:
            Names without the folder, in order; empty if it does not exist.

        Raises:
            UsageError: If it is a file, or may not be read.
        """
        try:
            found = self._fs.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        except OSError as error:
            raise UsageError(f"{self.shown(folder)!r} cannot be listed: {_one_line(error)}") from error
        return sorted(info.base_name for info in found if info.base_name.endswith(suffix))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name.

        Args:
            name: Below the root.

        Returns:
            Whether it is there.

        Raises:
            UsageError: If the directory cannot be looked into.
        """
        try:
            return bool(self._fs.get_file_info(self.path(name)).type == fs.FileType.File)
        except OSError as error:
            raise UsageError(f"{self.shown(name)!r} cannot be looked for: {_one_line(error)}") from error

    def read(self, name: str) -> bytes:
        """Read a file.

        Args:
            name: Below the root; there must be such a file.

        Returns:
            Its content.

        Raises:
            MissingError: If it is not there.
            UsageError: If it cannot be read.
        """
        try:
            with self._fs.open_input_stream(self.path(name), compression=None) as stream:
                return bytes(stream.read())
        except FileNotFoundError as error:
            raise MissingError(f"{self.shown(name)!r} cannot be read: {_one_line(error)}") from error
        except OSError as error:
            raise UsageError(f"{self.shown(name)!r} cannot be read: {_one_line(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all: locally fsync and rename, else an upload that shows when complete.

        Args:
            name: Below the root.
            content: All of it.

        Raises:
            UsageError: If it cannot be written.
        """
        path = self.path(name)
        try:
            if self.is_local:
                _write_and_rename(path, content)
                return
            with self._fs.open_output_stream(path) as stream:
                stream.write(content)
        except OSError as error:
            raise UsageError(f"{self.shown(name)!r} cannot be written: {_one_line(error)}") from error

    def remove(self, name: str) -> None:
        """Remove a file if it is there.

        Args:
            name: Below the root.

        Raises:
            UsageError: If it cannot be removed.
        """
        if self.has(name):
            try:
                self._fs.delete_file(self.path(name))
            except OSError as error:
                raise UsageError(f"{self.shown(name)!r} cannot be removed: {_one_line(error)}") from error

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it, if it is there.

        Args:
            name: Below the root.

        Raises:
            UsageError: If it cannot be removed.
        """
        try:
            if self._fs.get_file_info(self.path(name)).type == fs.FileType.Directory:
                self._fs.delete_dir(self.path(name))
        except OSError as error:
            raise UsageError(f"{self.shown(name)!r} cannot be removed: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _write_and_rename(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}{TEMPORARY}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            os.remove(temporary)
        raise
