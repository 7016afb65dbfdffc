"""CPython's topics: splits, vocabulary, identity."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from suite.errors import UsageError
from suite.workloads.language import pydoc
from suite.workloads.language.pydoc import load_pydoc
from suite.workloads.language.tokens import encode


@pytest.fixture
def replace(monkeypatch):
    """Replace the topics of this Python."""

    def replace(topics):
        module = ModuleType("pydoc_data.topics")
        module.topics = topics
        monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)

    return replace


def altered(topics, splits):
    """Return topics where the words of some splits are others of the same length."""
    names = {name for split in splits for name in pydoc.split_topics(topics)[split]}
    swap = str.maketrans("aeiou", "zqxjk")
    return {name: text.translate(swap) if name in names else text for name, text in topics.items()}


def test_every_topic_is_in_one_split():
    topics = pydoc.read_topics()
    splits = pydoc.split_topics(topics)
    assert sorted(name for names in splits.values() for name in names) == sorted(topics)
    whole = sum(map(len, topics.values()))
    shares = {split: sum(len(topics[name]) for name in names) / whole for split, names in splits.items()}
    assert shares == {
        "train": pytest.approx(0.8, abs=0.02),
        "val": pytest.approx(0.1, abs=0.01),
        "test": pytest.approx(0.1, abs=0.01),
    }


def test_no_paragraph_is_in_two_splits():
    topics = pydoc.read_topics()
    splits = pydoc.split_topics(topics)
    seen = [{each for name in splits[split] for each in pydoc.paragraphs(topics[name])} for split in pydoc.SPLITS]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_topics_with_a_paragraph_in_common_are_related():
    long = ["word " * 20 + str(number) for number in range(5)]
    topics = {
        "e": f"{long[0]}\n\n{long[1]}",
        "d": long[2],
        "c": f"short\n\n   {long[1]}\n\n{long[3]}",  # indented otherwise
        "b": f"short\n\n{long[4]}",
        "a": long[3].replace(" ", "\n  "),
    }
    assert pydoc.related(topics) == [["a", "c", "e"], ["b"], ["d"]]


def test_windows_hold_the_text_word_by_word():
    topics, tokenizer = pydoc.read_topics(), pydoc.pydoc_tokenizer()
    data = load_pydoc()
    texts = pydoc.split_texts(topics)
    for split, text in zip((data.train, data.val, data.test), texts.values(), strict=True):
        stream = encode(tokenizer, text)
        assert len(split) == (len(stream) - 1) // 64
        assert torch.equal(split.inputs.flatten(), stream[: len(split) * 64])
        assert torch.equal(split.targets.flatten(), stream[1 : len(split) * 64 + 1])
        assert int(split.targets.max()) < pydoc.VOCAB_SIZE
    first = pydoc.split_topics(topics)["train"][0]
    words = [tokenizer.id_to_token(index) for index in data.train.inputs[0].tolist()]
    assert [word for word in words if word.isalpha()][:3] == [
        word for word in topics[first].lower().replace('"', " ").split() if word.isalpha()
    ][:3]


def test_the_vocabulary_is_full_and_mostly_known():
    tokenizer = pydoc.pydoc_tokenizer()
    assert tokenizer.get_vocab_size() == pydoc.VOCAB_SIZE
    data = load_pydoc()
    unknown = [(split.inputs == 0).float().mean().item() for split in (data.train, data.val, data.test)]
    assert unknown[0] < 0.03
    assert max(unknown[1:]) < 0.12


def test_validation_and_test_do_not_feed_the_vocabulary(replace):
    topics = pydoc.read_topics()
    vocabulary = pydoc.pydoc_tokenizer().get_vocab()
    replace(altered(topics, ["val", "test"]))
    assert pydoc.pydoc_tokenizer().get_vocab() == vocabulary
    replace(altered(topics, ["train"]))
    assert pydoc.pydoc_tokenizer().get_vocab() != vocabulary


def test_the_checksum_is_that_of_the_topics(replace):
    replace({"b": "two", "a": "one"})
    assert pydoc.sha256() == hashlib.sha256(b'[["a", "one"], ["b", "two"]]').hexdigest()
    checksums = {pydoc.sha256()}
    for topics in ({"b": "two", "a": "One"}, {"b": "two", "c": "one"}, {"a": "one"}, {"a": "onetwo", "b": ""}):
        replace(topics)
        checksums.add(pydoc.sha256())
    assert len(checksums) == 5


def test_the_order_of_the_topics_does_not_matter(replace):
    topics = pydoc.read_topics()
    expected = (pydoc.sha256(), pydoc.split_topics(topics))
    replace(dict(reversed(topics.items())))
    assert (pydoc.sha256(), pydoc.split_topics(pydoc.read_topics())) == expected


def loaded():
    """Return a checksum of all that is loaded."""
    data = load_pydoc()
    words = sorted(pydoc.pydoc_tokenizer().get_vocab().items())
    parts = [split.inputs.numpy().tobytes() for split in (data.train, data.val, data.test)]
    return hashlib.sha256(repr(words).encode() + b"".join(parts)).hexdigest()


def test_every_process_loads_the_same():
    printed = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import loaded; print(loaded())"],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == loaded()


def test_what_a_spec_holds_can_be_pickled():
    for function in (load_pydoc, pydoc.sha256):
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("topics", [None, {}, [], {"a": 1}, {"a": b"text"}], ids=repr)
def test_topics_of_another_form_are_refused(replace, topics):
    replace(topics)
    with pytest.raises(UsageError, match="not texts by topic; use a Python with its whole standard library") as caught:
        load_pydoc()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["pydoc_data", "pydoc_data.topics"])
def test_a_python_without_topics_says_so(monkeypatch, module):
    monkeypatch.delitem(sys.modules, "pydoc_data.topics", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"this Python lacks pydoc_data.topics.*or another workload") as caught:
        pydoc.sha256()
    assert "\n" not in str(caught.value)


def test_too_little_text_names_the_split(replace):
    replace({"a": "a few words"})
    with pytest.raises(UsageError, match="the train split of pydoc_data.topics has 3 tokens"):
        load_pydoc()
