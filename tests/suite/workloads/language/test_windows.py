"""Windows of a stream, by value."""

import pytest
import torch

from suite.errors import UsageError
from suite.workloads.language.windows import windows


def test_each_token_but_the_first_is_predicted_once():
    split = windows(torch.arange(10), 3, source="it")
    assert split.inputs.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert split.targets.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize(("num_tokens", "num_windows"), [(4, 1), (6, 1), (7, 2), (9, 2)])
def test_what_fills_no_window_is_left_out(num_tokens, num_windows):
    split = windows(torch.arange(num_tokens), 3, source="it")
    assert len(split) == num_windows
    assert torch.equal(split.targets, split.inputs + 1)
    inputs, targets = split.take(torch.tensor([num_windows - 1]))
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.tolist() == [[3 * num_windows - 3, 3 * num_windows - 2, 3 * num_windows - 1]]


def test_windows_share_the_memory_of_the_stream():
    tokens = torch.arange(10)
    split = windows(tokens, 3, source="it")
    start = tokens.untyped_storage().data_ptr()
    assert split.inputs.untyped_storage().data_ptr() == split.targets.untyped_storage().data_ptr() == start


@pytest.mark.parametrize("num_tokens", [0, 1, 3])
def test_a_stream_that_fills_no_window_is_refused(num_tokens):
    with pytest.raises(UsageError) as caught:
        windows(torch.arange(num_tokens), 3, source="the test split")
    rule = f"the test split has {num_tokens} tokens, but one window of 3 takes 4; get the whole text"
    assert str(caught.value) == rule


def test_a_window_of_nothing_is_refused():
    with pytest.raises(UsageError, match="windows of 0 tokens: must be >= 1"):
        windows(torch.arange(10), 0, source="it")


def test_splits_are_joined_by_windows():
    joined = windows(torch.arange(7), 3, source="a").join(windows(torch.arange(100, 104), 3, source="b"))
    assert joined.inputs.tolist() == [[0, 1, 2], [3, 4, 5], [100, 101, 102]]
    assert joined.targets.tolist() == [[1, 2, 3], [4, 5, 6], [101, 102, 103]]
