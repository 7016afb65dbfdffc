"""CPython's documentation topics, which every Python carries: the text that needs no download.

The Python Language Reference as ``help()`` shows it, about 465 kB of English prose in Python 3.11; other versions have
other words, so :func:`sha256` is part of a run's identity. The same sections stand under several topics (all of *for*
also under *compound*), a fifth of the text: topics that share a paragraph go to the same split, or a model would be
tested on what it was trained on.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from typing import cast

from tokenizers import Tokenizer

from suite.errors import UsageError
from suite.workloads.base import Data
from suite.workloads.language.tokens import encode, word_level
from suite.workloads.language.windows import windows

SPLIT_SEED = 0
HELD_OUT = 0.1  # of the characters, at most, in validation, and in test
VOCAB_SIZE = 2048  # <unk> included
MIN_COUNT = 2
NUM_POSITIONS = 64
MIN_PARAGRAPH = 60  # characters; shorter ones, such as "Footnotes", recur by chance
SPLITS = ("train", "val", "test")


def load_pydoc() -> Data:
    """Return the topics in windows of 64 words.

    Returns:
        About 80, 10 and 10 % of the characters, whole topics; inputs and targets each int64 ``[n, 64]``.

    Raises:
        UsageError: If this Python lacks the topics.
    """  # noqa: DOC502
    texts = split_texts(read_topics())
    tokenizer = pydoc_tokenizer(texts["train"])
    train, val, test = (
        windows(encode(tokenizer, texts[split]), NUM_POSITIONS, source=f"the {split} split of pydoc_data.topics")
        for split in SPLITS
    )
    return Data(train, val, test)


def pydoc_tokenizer(train: str | None = None) -> Tokenizer:
    """Return the tokenizer that knows the 2,047 most frequent words of the training split.

    Args:
        train: That split's text; ``None``: it is made.

    Returns:
        The tokenizer.
    """
    if train is None:
        train = split_texts(read_topics())["train"]
    return word_level([train], max_size=VOCAB_SIZE, min_count=MIN_COUNT)


def sha256() -> str:
    """Return the checksum of the corpus: of all topics and their texts, sorted by topic.

    Returns:
        Hexadecimal.

    Raises:
        UsageError: If this Python lacks the topics.
    """  # noqa: DOC502
    return hashlib.sha256(json.dumps(sorted(read_topics().items())).encode()).hexdigest()


def read_topics() -> Mapping[str, str]:
    """Return the texts by topic.

    Returns:
        As this Python has them.

    Raises:
        UsageError: If it has none, as in some distributions' builds.
    """
    advice = "use a Python with its whole standard library, such as python.org's, or another workload"
    try:
        topics = getattr(importlib.import_module("pydoc_data.topics"), "topics", None)
    except ImportError as error:
        raise UsageError(
            f"this Python lacks pydoc_data.topics, the text of the workload ({error}); {advice}"
        ) from error
    is_text = isinstance(topics, Mapping) and all(isinstance(text, str) for text in topics.values())
    if not is_text or not topics:
        raise UsageError(f"pydoc_data.topics is a {type(topics).__name__} without texts, not texts by topic; {advice}")
    return cast(Mapping[str, str], topics)


def split_texts(topics: Mapping[str, str]) -> dict[str, str]:
    """Return the text of each split.

    Args:
        topics: Texts by topic.

    Returns:
        The texts of its topics in alphabetical order, one after the other.
    """
    return {split: "\n".join(topics[name] for name in names) for split, names in split_topics(topics).items()}


def split_topics(topics: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the topics of each split, groups that share paragraphs kept together.

    Groups come in an order drawn by a hash of :data:`SPLIT_SEED` and their first topic, so that it is the same in every
    Python. Each goes to validation if that still has room for it, else to test, else to training.

    Args:
        topics: Texts by topic.

    Returns:
        Names in alphabetical order, by split.
    """
    room = dict.fromkeys(("val", "test"), HELD_OUT * sum(map(len, topics.values())))
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    for group in sorted(
        related(topics), key=lambda group: hashlib.sha256(f"{SPLIT_SEED} {group[0]}".encode()).digest()
    ):
        size = sum(len(topics[name]) for name in group)
        split = next((split for split, left in room.items() if size <= left), "train")
        names[split] += group
        if split in room:
            room[split] -= size
    return {split: sorted(group) for split, group in names.items()}


def related(topics: Mapping[str, str]) -> list[list[str]]:
    """Return groups of topics, none of which shares a paragraph with a topic of another group.

    Args:
        topics: Texts by topic.

    Returns:
        Each group in alphabetical order, and the groups by their first topic.
    """
    groups = {name: [name] for name in sorted(topics)}
    first_with: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in paragraphs(topics[name]):
            mine, other = groups[name], groups[first_with.setdefault(paragraph, name)]
            if mine is not other:
                other += mine
                groups.update(dict.fromkeys(mine, other))
    return sorted(sorted(group) for group in {id(group): group for group in groups.values()}.values())


def paragraphs(text: str) -> Iterable[str]:
    """Return the paragraphs of a text that are long enough to tell where they come from.

    Args:
        text: Paragraphs are parted by empty lines.

    Returns:
        Each with single blanks for white space, as topics indent the same text differently.
    """
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    return [block for block in blocks if len(block) > MIN_PARAGRAPH]
