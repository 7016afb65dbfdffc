"""WikiText-2 and the Penn Treebank from small files in their published formats."""

import shutil

import pytest
import torch

from suite.errors import UsageError
from suite.workloads.files import cache_folder
from suite.workloads.language import ptb, texts, wikitext2
from suite.workloads.language.ptb import load_ptb, version_ptb
from suite.workloads.language.tokens import gpt_bpe
from suite.workloads.language.wikitext2 import load_wikitext2, version_wikitext2

WIKI = " \n = Slow <unk> = \n \n The low @-@ <unk> slower 0 @.@ 5 . \n"
WIKI_PIECES = (
    "=</w> s low</w> <unk> =</w> t h e</w> low</w> @</w> -</w> @</w> <unk> s low er</w> "
    "0</w> @</w> .</w> @</w> 5</w> .</w>"
)
RAW = " \n = Slow Loris = \n \n The low @-@ lower . \n"
RAW_PIECES = "=</w> s low</w> lo r i s</w> =</w> t h e</w> low</w> @</w> -</w> @</w> low er</w> .</w>"
PTB = " low N <unk> lower \n mr. <unk> \n"
PTB_PIECES = "low</w> n</w> <unk> low er</w> m r</w> .</w> <unk>"
REPEATS = {"train": 140, "valid": 70, "test": 80}


def write(folder, pattern, text):
    folder.mkdir(parents=True, exist_ok=True)
    for split, repeats in REPEATS.items():
        (folder / pattern.format(split)).write_text(text * repeats, encoding="utf-8")
    return folder


def wiki(data):
    return write(data / "wikitext-2", "wiki.{}.tokens", WIKI)


def treebank(data):
    return write(data / "ptb", "ptb.{}.txt", PTB)


@pytest.mark.parametrize(
    ("load", "pattern", "text", "pieces"),
    [
        (load_wikitext2, "wikitext-2/wiki.{}.tokens", WIKI, WIKI_PIECES),
        (load_wikitext2, "wikitext-2/wiki.{}.raw", RAW, RAW_PIECES),
        (load_wikitext2, "wikitext-2-raw/wiki.{}.raw", RAW, RAW_PIECES),
        (load_ptb, "ptb/ptb.{}.txt", PTB, PTB_PIECES),
        (load_ptb, "simple-examples/data/ptb.{}.txt", PTB, PTB_PIECES),
    ],
    ids=["wikitext-2", "wikitext-2 raw", "unpacked beside", "ptb", "simple-examples"],
)
def test_texts_are_read_token_by_token(data, bpe, load, pattern, text, pieces):
    folder, _, name = pattern.rpartition("/")
    write(data / folder, name, text)
    loaded, tokenizer = load(), gpt_bpe()
    for split, repeats in zip((loaded.train, loaded.val, loaded.test), REPEATS.values(), strict=True):
        stream = pieces.split() * repeats
        num_windows = (len(stream) - 1) // 512
        assert split.inputs.shape == split.targets.shape == (num_windows, 512)
        read = [tokenizer.id_to_token(index) for index in split.inputs.flatten().tolist()]
        assert read == stream[: num_windows * 512]
        assert torch.equal(split.targets.flatten()[:-1], split.inputs.flatten()[1:])


def test_a_text_is_tokenized_once(data, bpe, monkeypatch):
    treebank(data)
    first = load_ptb()
    assert [path.suffix for path in cache_folder().iterdir()] == [".pt"]
    monkeypatch.setattr(texts, "encode", None)
    again = load_ptb()
    assert torch.equal(again.train.inputs, first.train.inputs)
    assert torch.equal(again.test.targets, first.test.targets)


def test_other_merges_tokenize_anew(data, bpe):
    treebank(data)
    first = load_ptb()
    (bpe / "merges.txt").write_text("#version: 0.2\n")
    assert len(load_ptb().train) > len(first.train)


def test_tokens_are_preferred_to_raw(data, bpe):
    write(wiki(data), "wiki.{}.raw", RAW)
    assert wikitext2.files()["test"].name == "wiki.test.tokens"


def test_a_version_tells_text_and_tokenizer_and_kind(data, bpe):
    write(wiki(data), "wiki.{}.raw", RAW)
    treebank(data)
    versions = [version_wikitext2(), version_ptb()]
    assert versions == [version_wikitext2(), version_ptb()]
    (data / "wikitext-2" / "wiki.test.tokens").unlink()
    (data / "ptb" / "ptb.test.txt").write_text(PTB * 81)
    versions += [version_wikitext2(), version_ptb()]
    with (bpe / "merges.txt").open("a") as file:
        file.write("o w\n")
    versions += [version_wikitext2(), version_ptb()]
    assert len(set(versions)) == 6


@pytest.mark.parametrize(
    ("make", "load", "name"), [(wiki, load_wikitext2, "wikitext-2"), (treebank, load_ptb, "ptb")], ids=["wiki", "ptb"]
)
class TestBadInput:
    def refused(self, load):
        with pytest.raises(UsageError) as caught:
            load()
        assert "\n" not in str(caught.value)
        assert not cache_folder().exists() or not list(cache_folder().iterdir())
        return str(caught.value)

    def test_no_set(self, data, bpe, make, load, name):
        message = self.refused(load)
        assert f"{name!r} was not found in {data / name}" in message
        assert f"$FISHERBENCH_DATA/{name}" in message

    def test_one_split_missing(self, data, bpe, make, load, name):
        path = next(make(data).glob("*valid*"))
        path.unlink()
        message = self.refused(load)
        assert "is not whole: it lacks" in message
        assert path.name in message

    def test_no_tokenizer(self, data, make, load, name):
        make(data)
        assert "'openai-gpt' was not found" in self.refused(load)

    @pytest.mark.parametrize("content", ["", " \n \n"])
    def test_no_text(self, data, bpe, make, load, name, content):
        path = next(make(data).glob("*test*"))
        path.write_text(content)
        assert f"{path} holds no text ({len(content)} characters)" in self.refused(load)

    def test_too_short(self, data, bpe, make, load, name):
        path = next(make(data).glob("*valid*"))
        path.write_text("low " * 512)
        assert f"{path} has 512 tokens, but one window of 512 takes 513" in self.refused(load)
        path.write_text("low " * 513)
        assert len(load().val) == 1

    def test_not_utf8(self, data, bpe, make, load, name):
        path = next(make(data).glob("*train*"))
        path.write_bytes(b"low " * 600 + b"caf\xe9 low")
        assert f"{path} is not UTF-8 (byte 0xe9 at position 2,403)" in self.refused(load)

    def test_a_folder_instead_of_a_file(self, data, bpe, make, load, name):
        path = next(make(data).glob("*train*"))
        path.unlink()
        path.mkdir()
        assert f"{path} cannot be read: Is a directory" in self.refused(load)

    def test_no_room_for_the_cache(self, data, bpe, make, load, name, monkeypatch):
        make(data)
        (data / "file").touch()
        monkeypatch.setenv("FISHERBENCH_CACHE", str(data / "file"))
        with pytest.raises(UsageError, match="set FISHERBENCH_CACHE"):
            load()


def test_kinds_are_not_mixed(data, bpe):
    folder = wiki(data)
    shutil.move(folder / "wiki.test.tokens", folder / "wiki.test.raw")
    with pytest.raises(UsageError, match=r"mixes .tokens and .raw: all splits must be of one kind"):
        load_wikitext2()


def test_the_files_of_ptb_are_mikolovs(data):
    treebank(data)
    assert {split: path.name for split, path in ptb.files().items()} == {
        "train": "ptb.train.txt",
        "valid": "ptb.valid.txt",
        "test": "ptb.test.txt",
    }
