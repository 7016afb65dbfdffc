"""What a person sees who asks for a workload that cannot be had: one line, exit code 2, nothing left behind."""

import re
import sys
from dataclasses import replace

import pytest
import torch

from suite import cli
from suite.execution import job
from suite.results import load
from suite.workloads.images import cifar, idx
from tests.suite import tiny
from tests.suite.workloads.images.formats import idx_set, publish_idx, write_idx

pytestmark = pytest.mark.usefixtures("_no_data")


@pytest.fixture(autouse=True)
def _reads_anew():
    """Forget the data that other tests have loaded in this process."""
    job._data.cache_clear()
    yield
    job._data.cache_clear()


def run(workload, *arguments):
    return cli.main(["run", "--workload", workload, "--optimizer", "sgd", "--budget", "1 steps", *arguments])


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refused(capsys, folder, workload, *arguments):
    """Return the line that a refusal prints."""
    before = files(folder)
    assert run(workload, *arguments, "--results", str(folder / "results")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert files(folder) == before
    return said.err


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """Write Fashion-MNIST, small, with changes to its arrays, and return its folder."""
    monkeypatch.setattr(idx, "DEBIAN_FASHION", "/nonexistent")
    monkeypatch.setattr(idx, "NUM_VAL", 12)

    def write(**changes):
        arrays = {**idx_set(), **{f"{name}-ubyte".replace("_", "-"): array for name, array in changes.items()}}
        publish_idx(monkeypatch, "FashionMNIST", arrays)
        write_idx(tmp_path / "data" / "FashionMNIST", arrays, compressed=True)
        return tmp_path / "data" / "FashionMNIST"

    return write


def test_small_files_in_the_published_format_train(fashion, tmp_path):
    fashion()
    assert run("fashion_mnist_resnet8", "--batch-size", "8", "--results", str(tmp_path / "results")) == 0


def test_a_data_set_that_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN_FASHION", "/nonexistent")
    said = refused(capsys, tmp_path, "fashion_mnist_resnet8")
    assert "not found in" in said
    assert "apt-get install dataset-fashion-mnist" in said


def test_a_data_set_of_which_a_file_is_missing(fashion, tmp_path, capsys):
    (fashion() / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "is not whole: it lacks t10k-labels-idx1-ubyte.gz" in refused(capsys, tmp_path, "fashion_mnist_resnet8")


def test_a_file_that_ends_too_early(fashion, tmp_path, capsys):
    path = fashion() / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    assert "train-images-idx3-ubyte.gz" in refused(capsys, tmp_path, "fashion_mnist_resnet8")


def test_labels_out_of_range(fashion, tmp_path, capsys):
    fashion(train_labels_idx1=torch.arange(60) % 13)
    assert "labels must be in [0, 10)" in refused(capsys, tmp_path, "fashion_mnist_resnet8")


@pytest.mark.parametrize(
    ("size", "message"), [("49", "batch_size must be <= the 48"), ("0", "batch_size must be >= 1")]
)
def test_a_batch_that_cannot_be(fashion, tmp_path, capsys, size, message):
    fashion()
    run("fashion_mnist_resnet8", "--batch-size", "8", "--results", str(tmp_path / "elsewhere"))  # fills the cache
    capsys.readouterr()
    assert message in refused(capsys, tmp_path, "fashion_mnist_resnet8", "--batch-size", size)


def test_a_cache_that_cannot_be_written(fashion, tmp_path, capsys, monkeypatch):
    fashion()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert "set FISHERBENCH_CACHE to a folder that can" in refused(capsys, tmp_path, "fashion_mnist_resnet8")


def test_text_without_text(tmp_path, capsys):
    folder = tmp_path / "data" / "ptb"
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (folder / f"ptb.{split}.txt").write_text("")
    openai = tmp_path / "data" / "openai-gpt"
    openai.mkdir()
    (openai / "vocab.json").write_text('{"<unk>": 0, "a</w>": 1}')
    (openai / "merges.txt").write_text("#version: 0.2\n")
    assert "holds no text" in refused(capsys, tmp_path, "ptb_gpt")


def test_data_that_the_plan_must_know_are_looked_for_before_it_is_made(tmp_path, capsys):
    assert "'wikitext-2' was not found" in refused(capsys, tmp_path, "wikitext2_gpt")


def test_a_dry_run_needs_no_data(tmp_path, capsys):
    assert run("wikitext2_gpt", "--dry-run", "--results", str(tmp_path / "results")) == 0
    assert "wikitext2_gpt with sgd" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_a_text_that_is_a_folder(tmp_path, capsys):
    for split in ("train", "valid", "test"):
        (tmp_path / "data" / "ptb" / f"ptb.{split}.txt").mkdir(parents=True)
    openai = tmp_path / "data" / "openai-gpt"
    openai.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (openai / name).write_text("")
    assert "ptb.train.txt cannot be read" in refused(capsys, tmp_path, "ptb_gpt")


def test_weights_that_are_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cifar, "load_arrays", lambda *_, **__: tiny.load())
    monkeypatch.setattr(cifar, "locate", lambda *_, **__: tmp_path)
    said = refused(capsys, tmp_path, "cifar10_mobilenetv3_pretrained", "--batch-size", "8")
    assert "the weights 'mobilenet_v3_large-" in said
    assert str(tmp_path / "data" / "weights") in said


OWN = """
import torch
from dataclasses import replace
from suite.workloads import Data, TensorSplit
from tests.suite.tiny import MLP

def split(num_inputs, num_targets=None):
    return TensorSplit(torch.zeros(num_inputs, 8), torch.zeros(num_targets or num_inputs, dtype=torch.int64))

def missing():
    return open("no.such.file")

def none():
    return split(4), split(4), split(4)

def empty():
    return Data(split(4), split(0), split(4))

def uneven():
    return Data(split(4, 3), split(4), split(4))

def number():
    return 3

MISSING, NONE, EMPTY, UNEVEN = (replace(MLP, load=load) for load in (missing, none, empty, uneven))
UNBUILT, ODD = (replace(MLP, build_model=build_model) for build_model in (missing, number))
UNKNOWN = replace(MLP, data_version=missing)
"""
FAULTS = {
    "MISSING": "cannot load its data: FileNotFoundError: .* 'no.such.file'",
    "NONE": "returned a tuple, not Data",
    "EMPTY": "the val split has no samples",
    "UNEVEN": "each input needs a target, but got 4 and 3",
    "UNBUILT": "cannot build its model: FileNotFoundError",
    "ODD": "returned a int, not a Module",
    "UNKNOWN": "cannot tell the version of its data: FileNotFoundError",
}


@pytest.mark.parametrize(("spec", "message"), FAULTS.items(), ids=FAULTS)
def test_a_workload_of_ones_own_with_a_fault(tmp_path, capsys, monkeypatch, spec, message):
    (tmp_path / "own_fault.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("own_fault", None)
    assert re.search(message, refused(capsys, tmp_path, f"own_fault:{spec}"))


def test_the_version_of_the_data_is_part_of_what_is_planned(tmp_path):
    assert run("tests.suite.workloads.test_command:VERSIONED", "--results", str(tmp_path / "results")) == 0
    [row] = load(str(tmp_path / "results")).runs.to_dict("records")
    assert row["data_version"] == "seventh"


def version():
    return "seventh"


VERSIONED = replace(tiny.MLP, data_version=version)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("cifar10_resnet", "unknown workload 'cifar10_resnet'; known: cifar100_cct_2_3x2, "),
        ("nowhere:SPEC", "cannot be imported"),
        ("suite.workloads.digits:load", "is a function, not a WorkloadSpec"),
        ("suite.workloads.digits:NOTHING", "cannot be imported"),
    ],
)
def test_a_workload_that_nobody_knows(tmp_path, capsys, workload, message):
    assert message in refused(capsys, tmp_path, workload)
