"""Penn Treebank: articles of the Wall Street Journal, in Mikolov's preparation.

Marcus et al. (1993), "Building a Large Annotated Corpus of English"; Mikolov et al. (2010), "Recurrent neural network
based language model". A sentence a line, lower case, without punctuation; numbers are ``N`` and all words but the
10,000 most frequent ones ``<unk>``. The published archive is ``simple-examples.tgz``, folder ``data``.
"""

from pathlib import Path

from suite.workloads.base import Data
from suite.workloads.files import data_folder, locate
from suite.workloads.language.texts import SPLITS, load_texts, texts_version

NAME = "ptb"
ADVICE = f"put ptb.train.txt, ptb.valid.txt and ptb.test.txt of simple-examples.tgz into $FISHERBENCH_DATA/{NAME}"


def load_ptb() -> Data:
    """Return the Penn Treebank in windows of 512 byte pairs.

    Returns:
        The official splits, inputs and targets each int64 ``[n, 512]``.

    Raises:
        UsageError: If the texts or GPT-1's tokenizer are missing, corrupt or too short.
    """  # noqa: DOC502
    return load_texts(NAME, files())


def version_ptb() -> str:
    """Return what tells these files, tokenizer and embeddings from others.

    Returns:
        A SHA-256, hexadecimal.

    Raises:
        UsageError: If a file is missing.
    """  # noqa: DOC502
    return texts_version(files())


def files() -> dict[str, Path]:
    """Return the file of each split.

    Returns:
        By split.

    Raises:
        UsageError: If one is missing.
    """  # noqa: DOC502
    names = {split: f"ptb.{split}.txt" for split in SPLITS}
    folder = locate(NAME, [*names.values()], advice=ADVICE, places=[str(data_folder() / "simple-examples" / "data")])
    return {split: folder / name for split, name in names.items()}
