"""Texts in files of their own for training, validation and test, in GPT-1's byte pairs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from suite.errors import UsageError
from suite.workloads.base import Data
from suite.workloads.files import cached
from suite.workloads.language.tokens import encode, gpt_bpe, gpt_bpe_files
from suite.workloads.language.windows import windows
from suite.workloads.networks.gpt import NUM_POSITIONS, embeddings_version

SPLITS = ("train", "valid", "test")


def read_bytes(path: Path) -> bytes:
    """Return what a file holds.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; get it again") from error


def read_text(path: Path) -> str:
    """Return a text.

    Args:
        path: Its file, in UTF-8.

    Returns:
        The text.

    Raises:
        UsageError: If the file cannot be read, is not UTF-8, or holds no text.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"byte {error.object[error.start]:#04x} at position {error.start:,}"
        raise UsageError(f"{path} is not UTF-8 ({why}); get it again, or convert it") from error
    if not text.strip():
        raise UsageError(f"{path} holds no text ({len(text)} characters); get it again")
    return text


def load_texts(name: str, paths: Mapping[str, Path], *, length: int = NUM_POSITIONS) -> Data:
    """Return windows of texts in GPT-1's byte pairs; tokenized once, and then mapped from the cache.

    Perplexity on them is that of a byte pair, not of a word as the literature on these texts reports it.

    Args:
        name: Of the data set.
        paths: The file of each of :data:`SPLITS`.
        length: Tokens of a window.

    Returns:
        The three splits, inputs and targets each int64 ``[n, length]``.

    Raises:
        UsageError: If a text, or the tokenizer, is missing, corrupt or too short; nothing is cached then.
    """  # noqa: DOC502

    def build() -> dict[str, Tensor]:
        texts = {split: read_text(paths[split]) for split in SPLITS}
        tokenizer = gpt_bpe()
        streams = {split: encode(tokenizer, text) for split, text in texts.items()}
        for split in SPLITS:
            windows(streams[split], length, source=str(paths[split]))
        return streams

    streams = cached(f"{name}-bpe", [*(paths[split] for split in SPLITS), *gpt_bpe_files()], build)
    train, val, test = (windows(streams[split], length, source=str(paths[split])) for split in SPLITS)
    return Data(train, val, test)


def texts_version(paths: Mapping[str, Path]) -> str:
    """Return what tells these texts, their tokenizer and the network's embeddings from others, for a run's identity.

    Args:
        paths: The file of each of :data:`SPLITS`.

    Returns:
        A SHA-256, hexadecimal.

    Raises:
        UsageError: If the tokenizer is missing, or the embeddings are corrupt.
    """  # noqa: DOC502
    digest = hashlib.sha256()
    for path in [*(paths[split] for split in SPLITS), *gpt_bpe_files()]:
        digest.update(hashlib.sha256(read_bytes(path)).digest())
    digest.update(embeddings_version().encode())
    return digest.hexdigest()
