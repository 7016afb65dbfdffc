"""Tokenizers: whole words, counted in the training text, and GPT-1's byte pairs, from their published files."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from suite.errors import UsageError
from suite.workloads.files import locate
from suite.workloads.networks.gpt import VOCAB_SIZE

UNKNOWN = "<unk>"
WORD = r"\w+|([^\w\s])\1*"  # a word, or a run of one and the same sign
ADVICE = "get vocab.json and merges.txt of openai-community/openai-gpt at huggingface.co"


def word_level(texts: Iterable[str], *, max_size: int, min_count: int = 1) -> Tokenizer:
    """Return a tokenizer of lower-case words and punctuation that knows the most frequent ones of some texts.

    The vocabulary is counted here rather than by the library's trainer, so that ties break in the same way in every
    process and release: ids follow falling frequency, then the alphabet. ``<unk>`` is 0.

    Args:
        texts: What is counted: the training split and no other.
        max_size: Most tokens, ``<unk>`` included; >= 1.
        min_count: How often a word occurs at least; >= 1.

    Returns:
        The tokenizer.

    Raises:
        UsageError: If an argument breaks its rule.
    """
    if max_size < 1 or min_count < 1:
        raise UsageError(f"max_size={max_size} and min_count={min_count} must be >= 1")
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    splitters = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(WORD), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitters)
    counts: Counter[str] = Counter()
    for line in (line for text in texts for line in text.replace(UNKNOWN, "").split("\n")):
        counts.update(
            word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(line))
        )
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    words = [UNKNOWN, *(word for _, word in frequent[: max_size - 1])]
    tokenizer.model = models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN)
    tokenizer.add_special_tokens([UNKNOWN])  # where a text has it, it is one token
    return tokenizer


def gpt_bpe_files(folder: Path | None = None) -> list[Path]:
    """Return the files that :func:`gpt_bpe` reads.

    Args:
        folder: Where they lie; ``None``: ``$FISHERBENCH_DATA/openai-gpt``.

    Returns:
        ``tokenizer.json`` if it is there, else ``vocab.json`` and ``merges.txt``.

    Raises:
        UsageError: If they are not there.
    """
    if folder is None:
        folder = locate("openai-gpt", ["vocab.json|tokenizer.json", "merges.txt|tokenizer.json"], advice=ADVICE)
    if (folder / "tokenizer.json").exists():
        return [folder / "tokenizer.json"]
    paths = [folder / "vocab.json", folder / "merges.txt"]
    for path in paths:
        if not path.exists():
            raise UsageError(f"the byte pairs in {folder} are not whole: they lack {path.name}; {ADVICE}")
    return paths


def gpt_bpe(folder: Path | None = None, *, max_size: int = VOCAB_SIZE) -> Tokenizer:
    """Return GPT-1's tokenizer: byte pairs (Sennrich et al., 2016) within lower-case words and punctuation.

    Line ends are white space, so they make no token. ``<unk>`` in a text is the vocabulary's.

    Args:
        folder: With the files as published at Hugging Face; ``None``: ``$FISHERBENCH_DATA/openai-gpt``.
        max_size: Most tokens: the rows of the embedding.

    Returns:
        The tokenizer.

    Raises:
        UsageError: If a file is missing or corrupt, or the vocabulary does not fit the embedding.
    """
    paths = gpt_bpe_files(folder)
    if len(paths) == 1:
        tokenizer = _whole_tokenizer(paths[0])
    else:
        tokenizer = _tokenizer_of_pairs(*paths)
    vocabulary = tokenizer.get_vocab()
    if UNKNOWN not in vocabulary:
        raise UsageError(f"the vocabulary in {paths[0]} has no {UNKNOWN!r}, for what it does not know; {ADVICE}")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise UsageError(f"the vocabulary in {paths[0]} does not number its tokens 0, 1, 2, ...; {ADVICE}")
    if len(vocabulary) > max_size:
        raise UsageError(
            f"the vocabulary in {paths[0]} has {len(vocabulary)} tokens, but the embedding {max_size} rows"
        )
    tokenizer.add_special_tokens([UNKNOWN])
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> Tensor:
    """Return a text's tokens.

    Line by line: that gives the same tokens, as line ends part words, in less memory; and without the library's
    threads, which do not go with processes that fork.

    Args:
        tokenizer: One of this module.
        text: Any length.

    Returns:
        int64, shape ``[N]``.
    """
    ids: list[int] = []
    for line in text.split("\n"):
        ids += tokenizer.encode(line, add_special_tokens=False).ids
    return torch.tensor(ids, dtype=torch.int64)


def _whole_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other
        raise UsageError(f"{path} is no tokenizer: {_line(error)}; {ADVICE}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _tokenizer_of_pairs(vocab: Path, merges: Path) -> Tokenizer:
    words = _read_vocabulary(vocab)
    pairs = _read_merges(merges)
    try:
        model = models.BPE(words, pairs, unk_token=UNKNOWN, end_of_word_suffix="</w>")
    except Exception as error:  # the library raises no other
        raise UsageError(f"{merges} does not go with {vocab.name}: {_line(error)}; {ADVICE}") from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        words = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:  # neither UTF-8 nor JSON
        raise UsageError(f"{path} is corrupt: {_line(error)}; {ADVICE}") from error
    if not isinstance(words, dict) or not all(type(index) is int and index >= 0 for index in words.values()):
        raise UsageError(f"{path} is corrupt: it is no table of tokens and their numbers >= 0; {ADVICE}")
    return words


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_bytes().decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is corrupt: {_line(error)}; {ADVICE}") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("#version") or not line.strip():
            continue
        match line.strip().split(" "):
            case [left, right]:
                pairs.append((left, right))
            case _:
                raise UsageError(f"{path} is corrupt: line {number}, {line[:40]!r}, is no pair; {ADVICE}")
    return pairs


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
