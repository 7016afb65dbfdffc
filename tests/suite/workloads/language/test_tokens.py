"""Words and byte pairs against what is worked out by hand."""

import json
import random

import pytest
import torch
from tokenizers import Tokenizer, models

from suite.errors import UsageError
from suite.workloads.language.tokens import encode, gpt_bpe, word_level

from .conftest import MERGES, VOCABULARY


def read(tokenizer, text):
    return [tokenizer.id_to_token(index) for index in encode(tokenizer, text).tolist()]


def test_words_and_runs_of_a_sign_are_lower_case_tokens():
    tokenizer = word_level(['The __init__() of "B2"...\n*****  é=>'], max_size=99)
    text = 'THE __init__() of "b2"...\n\n*****\té => ***'
    words = ["the", "__init__", "(", ")", "of", '"', "b2", '"', "...", "*****", "é", "=", ">", "<unk>"]
    assert read(tokenizer, text) == words


def test_ids_follow_falling_frequency_then_the_alphabet():
    tokenizer = word_level(["b a", "c c\nB d a c e"], max_size=99, min_count=2)
    assert tokenizer.get_vocab() == {"<unk>": 0, "c": 1, "a": 2, "b": 3}
    assert word_level(["b a", "c c\nB d a c e"], max_size=3).get_vocab() == {"<unk>": 0, "c": 1, "a": 2}


def test_the_order_of_the_texts_does_not_matter():
    words = [chr(97 + i // 26) + chr(97 + i % 26) for i in range(500)]
    shuffled = random.Random(0).sample(words, len(words))
    vocabulary = word_level([" ".join(words)], max_size=300).get_vocab()
    assert word_level(shuffled, max_size=300).get_vocab() == vocabulary
    assert [word for word, _ in sorted(vocabulary.items(), key=lambda item: item[1])] == ["<unk>", *sorted(words)[:299]]


def test_unknown_words_are_one_token_each():
    tokenizer = word_level(["a b <unk> <unk>"], max_size=99)
    assert tokenizer.get_vocab() == {"<unk>": 0, "a": 1, "b": 2}
    assert encode(tokenizer, "a zebra b <unk> zoo").tolist() == [1, 0, 2, 0, 0]
    assert read(tokenizer, "zebra a <unk>") == ["<unk>", "a", "<unk>"]


def test_a_text_without_words_has_no_tokens():
    for text in ("", " \n\t\n "):
        tokens = encode(word_level(["a"], max_size=9), text)
        assert tokens.shape == (0,)
        assert tokens.dtype == torch.int64


@pytest.mark.parametrize("sizes", [{"max_size": 0}, {"max_size": 5, "min_count": 0}])
def test_a_vocabulary_of_nothing_is_refused(sizes):
    with pytest.raises(UsageError, match="must be >= 1"):
        word_level(["a"], **sizes)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("low", ["low</w>"]),  # l o w</w>: lo, then low</w>
        ("lower", ["low", "er</w>"]),  # l o w e r</w>: lo w e r</w>, lo w er</w>, low er</w>
        ("LOWER", ["low", "er</w>"]),
        ("slow", ["s", "low</w>"]),
        ("lo", ["l", "o</w>"]),  # the merge is of l and o within a word
        ("wer", ["w", "er</w>"]),
        ("low-lower.", ["low</w>", "-</w>", "low", "er</w>", ".</w>"]),
        ("a@-@b", ["a</w>", "@</w>", "-</w>", "@</w>", "b</w>"]),
        ("élow", ["e", "low</w>"]),  # accents go, as in lower-case BERT
        ("low <unk> low", ["low</w>", "<unk>", "low</w>"]),
        ("low<unk>", ["low</w>", "<unk>"]),
        ("lowя", ["low", "<unk>"]),
        ("low \n\n\tlow", ["low</w>", "low</w>"]),
        ("", []),
    ],
)
def test_byte_pairs_are_those_worked_out_by_hand(bpe, text, tokens):
    assert read(gpt_bpe(), text) == tokens


def test_the_earlier_merge_goes_first(bpe):
    words = [*VOCABULARY, "ow"]
    (bpe / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (bpe / "merges.txt").write_text("#version: 0.2\no w\nl o\n")
    assert read(gpt_bpe(), "lows") == ["l", "ow", "s</w>"]
    (bpe / "merges.txt").write_text("#version: 0.2\nl o\no w\n")
    assert read(gpt_bpe(), "lows") == ["lo", "w", "s</w>"]


def test_ids_are_those_of_the_file(bpe):
    assert encode(gpt_bpe(), "lower <unk>").tolist() == [VOCABULARY.index("low"), VOCABULARY.index("er</w>"), 0]
    assert gpt_bpe().get_vocab_size() == len(VOCABULARY)
    assert gpt_bpe().decode([VOCABULARY.index(each) for each in ("low", "er</w>", "low</w>")]) == "lower low"


def test_a_whole_tokenizer_is_preferred(bpe):
    tokenizer = gpt_bpe()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9, pad_token="<unk>")
    text = "lower low lower"
    tokenizer.save(str(bpe / "tokenizer.json"))
    expected = ["low", "er</w>", "low</w>", "low", "er</w>"]
    for name in ("vocab.json", "merges.txt"):
        assert read(gpt_bpe(), text) == expected
        (bpe / name).unlink()
    assert read(gpt_bpe(bpe), text) == expected


def test_the_tokenizer_is_looked_for_where_the_data_are(data):
    with pytest.raises(UsageError) as caught:
        gpt_bpe()
    message = str(caught.value)
    assert str(data / "openai-gpt") in message
    assert "get vocab.json and merges.txt of openai-community/openai-gpt at huggingface.co" in message
    assert "\n" not in message


def vocabulary(words):
    return json.dumps({word: index for index, word in enumerate(words)})


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("vocab.json", b"", "vocab.json is corrupt"),
        ("vocab.json", vocabulary(VOCABULARY)[:500].encode(), "vocab.json is corrupt"),
        ("vocab.json", b'{"\xff": 0}', "vocab.json is corrupt"),
        ("vocab.json", b"[1, 2]", "no table of tokens and their numbers"),
        ("vocab.json", b'{"<unk>": -1}', "no table of tokens and their numbers"),
        ("vocab.json", b'{"<unk>": true}', "no table of tokens and their numbers"),
        ("vocab.json", vocabulary(["?", *VOCABULARY[1:]]).encode(), "has no '<unk>'"),
        ("vocab.json", json.dumps({w: 2 * i for i, w in enumerate(VOCABULARY)}).encode(), "does not number its tokens"),
        ("merges.txt", b"\xff\xfe", "merges.txt is corrupt"),
        ("merges.txt", b"#version: 0.2\nl o\nl\n", "line 3, 'l', is no pair"),
        ("merges.txt", b"#version: 0.2\nl o x\n", "line 2, 'l o x', is no pair"),
        ("merges.txt", b"#version: 0.2\nq q\n", "merges.txt does not go with vocab.json"),
        ("tokenizer.json", b"{}", "tokenizer.json is no tokenizer"),
        ("tokenizer.json", b'{"version": "1.0", "trunc', "tokenizer.json is no tokenizer"),
    ],
)
def test_corrupt_files_are_one_line(bpe, file, content, rule):
    (bpe / file).write_bytes(content)
    with pytest.raises(UsageError, match=rule) as caught:
        gpt_bpe()
    assert str(bpe) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(bpe):
    (bpe / "merges.txt").unlink()
    with pytest.raises(UsageError, match="lacks merges.txt"):
        gpt_bpe()
    with pytest.raises(UsageError, match=r"they lack merges.txt; get vocab.json and merges.txt"):
        gpt_bpe(bpe)


def test_a_vocabulary_larger_than_the_embedding_is_refused(bpe):
    size = len(VOCABULARY)
    assert gpt_bpe(max_size=size).get_vocab_size() == size
    with pytest.raises(UsageError, match=rf"has {size} tokens, but the embedding {size - 1} rows"):
        gpt_bpe(max_size=size - 1)


def test_a_whole_tokenizer_without_unknown_is_refused(bpe):
    Tokenizer(models.BPE({"a": 0}, [])).save(str(bpe / "tokenizer.json"))
    with pytest.raises(UsageError, match="has no '<unk>'"):
        gpt_bpe()


def test_a_file_without_a_version_line_is_read_from_its_first_merge(bpe):
    (bpe / "merges.txt").write_text("\n".join(map(" ".join, MERGES)))
    assert read(gpt_bpe(), "lower") == ["low", "er</w>"]
