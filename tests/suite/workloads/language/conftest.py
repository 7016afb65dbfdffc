"""A tokenizer of letters with a few merges, in the files that Hugging Face publishes."""

import json
import string

import pytest

SIGNS = string.ascii_lowercase + string.digits + string.punctuation
MERGES = [("l", "o"), ("e", "r</w>"), ("lo", "w"), ("lo", "w</w>")]
VOCABULARY = ["<unk>", *SIGNS, *(f"{sign}</w>" for sign in SIGNS), *map("".join, MERGES)]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """The folder of data sets, empty; the cache beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("FISHERBENCH_DATA", str(folder))
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    return folder


@pytest.fixture
def bpe(data):
    """The folder of the tokenizer's files."""
    folder = data / "openai-gpt"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, MERGES)]) + "\n")
    return folder
