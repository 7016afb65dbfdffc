"""WikiText-2: articles of Wikipedia that its editors found good.

Merity et al. (2017), "Pointer Sentinel Mixture Models", section 4. The published archives are ``wikitext-2-v1.zip``
(files ``wiki.*.tokens``: rare words are ``<unk>``, hyphens within words ``@-@``) and ``wikitext-2-raw-v1.zip`` (files
``wiki.*.raw``: all words). Headings are lines ``= Title =`` and remain in the text.
"""

from pathlib import Path

from suite.errors import UsageError
from suite.workloads.base import Data
from suite.workloads.files import data_folder, locate
from suite.workloads.language.texts import SPLITS, load_texts, texts_version

NAME = "wikitext-2"
KINDS = ("tokens", "raw")
ADVICE = f"unpack the files of wikitext-2-v1.zip (or wikitext-2-raw-v1.zip) into $FISHERBENCH_DATA/{NAME}"


def load_wikitext2() -> Data:
    """Return WikiText-2 in windows of 512 byte pairs.

    Returns:
        The official splits, inputs and targets each int64 ``[n, 512]``.

    Raises:
        UsageError: If the texts or GPT-1's tokenizer are missing, corrupt or too short.
    """  # noqa: DOC502
    return load_texts(NAME, files())


def version_wikitext2() -> str:
    """Return what tells these files (``.tokens`` or ``.raw``), tokenizer and embeddings from others.

    Returns:
        A SHA-256, hexadecimal.

    Raises:
        UsageError: If a file is missing.
    """  # noqa: DOC502
    return texts_version(files())


def files() -> dict[str, Path]:
    """Return the file of each split; ``.tokens`` if both kinds are there.

    Returns:
        By split.

    Raises:
        UsageError: If a split is missing, or they are not of one kind.
    """
    raw = str(data_folder() / "wikitext-2-raw")
    either = ["|".join(f"wiki.{split}.{kind}" for kind in KINDS) for split in SPLITS]
    folder = locate(NAME, either, advice=ADVICE, places=[raw])
    for kind in KINDS:
        paths = {split: folder / f"wiki.{split}.{kind}" for split in SPLITS}
        if all(path.exists() for path in paths.values()):
            return paths
    raise UsageError(
        f"the data set {NAME!r} in {folder} mixes .tokens and .raw: all splits must be of one kind; {ADVICE}"
    )
