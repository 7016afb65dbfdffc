import pickle
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from suite.workloads import Data
from suite.workloads.augment import Crop, Flip
from suite.workloads.images import idx
from tests.suite.workloads.images.formats import (
    idx_bytes,
    idx_set,
    leftovers,
    pixels_by_label,
    publish_idx,
    refusal,
    write_idx,
)

NUM_VAL = 10
LOADERS = {"MNIST": idx.load_mnist, "FashionMNIST": idx.load_fashion_mnist}
LAYOUTS = [(".", True), (".", False), ("raw", True), ("raw", False)]


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setattr(idx, "NUM_VAL", NUM_VAL)
    monkeypatch.setattr(idx, "DEBIAN_FASHION", str(tmp_path / "debian"))
    for name in LOADERS:
        publish_idx(monkeypatch, name, idx_set())


@pytest.fixture
def mnist(data):
    """MNIST, uncompressed, small."""
    write_idx(data / "MNIST", idx_set(), compressed=False)
    return data / "MNIST"


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(("layout", "compressed"), LAYOUTS)
def test_all_pixels_and_labels_are_read(data, name, layout, compressed):
    arrays = idx_set()
    write_idx(data / name / layout, arrays, compressed)
    loaded = LOADERS[name]()
    train_images, train_labels, test_images, test_labels = arrays.values()
    assert torch.equal(loaded.test.inputs, test_images[:, None])
    assert torch.equal(loaded.test.targets, test_labels)
    inputs = torch.cat([loaded.train.inputs, loaded.val.inputs])
    targets = torch.cat([loaded.train.targets, loaded.val.targets])
    assert pixels_by_label(inputs, targets) == pixels_by_label(train_images[:, None], train_labels)
    assert inputs.dtype == torch.uint8
    assert targets.dtype == torch.int64
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == (50, NUM_VAL, 20)


def test_torchvision_reads_the_same(mnist):
    dataset = datasets.MNIST  # its layout is <root>/MNIST/raw
    write_idx(mnist / "raw", idx_set(), compressed=False)
    assert torch.equal(dataset(str(mnist.parent), train=False).data[:, None], idx.load_mnist().test.inputs)


def test_the_classes_of_the_splits_are_in_proportion_and_always_the_same(mnist):
    first, second = idx.load_mnist(), idx.load_mnist()
    assert Counter(first.val.targets.tolist()) == dict.fromkeys(range(10), 1)
    assert torch.equal(first.val.inputs, second.val.inputs)


def test_all_workers_map_the_same_file(mnist, tmp_path):
    idx.load_mnist()
    loaded = idx.load_mnist()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    maps = Path("/proc/self/maps").read_text()
    lines = [line for line in maps.splitlines() if str(tmp_path / "cache") in line]
    address = loaded.train.inputs.data_ptr()
    assert any(int(line.split("-")[0], 16) <= address < int(line.split()[0].split("-")[1], 16) for line in lines)


def test_debians_package_is_found(tmp_path):
    write_idx(tmp_path / "debian", idx_set(), compressed=True)
    assert len(idx.load_fashion_mnist().test) == 20


def test_only_the_training_images_of_fashion_mnist_are_augmented(data):
    write_idx(data / "MNIST", idx_set(), compressed=False)
    write_idx(data / "FashionMNIST", idx_set(), compressed=False)
    fashion, mnist = idx.load_fashion_mnist(), idx.load_mnist()
    assert fashion.train.transform.before == (Crop(2), Flip())
    assert fashion.train.transform.after == ()
    assert [split.num_draws for split in (fashion.train, fashion.val, fashion.test)] == [3, 0, 0]
    assert [split.num_draws for split in (mnist.train, mnist.val, mnist.test)] == [0, 0, 0]


def test_images_are_standardized(mnist):
    loaded = idx.load_mnist()
    inputs, targets = loaded.test.take(torch.tensor([3, 0]))
    expected = (loaded.test.inputs[[3, 0]] / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(inputs, expected)
    assert torch.equal(targets, loaded.test.targets[[3, 0]])


def test_the_papers_splits_train_on_all_with_augmentation(data):
    write_idx(data / "FashionMNIST", idx_set(), compressed=False)
    paper = idx.load_fashion_mnist().with_splits("paper")
    assert (len(paper.train), paper.val, len(paper.test)) == (60, None, 20)
    assert paper.train.num_draws == 3
    images, labels, *_ = idx_set().values()
    assert pixels_by_label(paper.train.inputs, paper.train.targets) == pixels_by_label(images[:, None], labels)
    picked, draws = torch.arange(55, 60), torch.rand(5, 3)  # of the validation split
    inputs, _ = paper.train.take(picked, draws)
    assert torch.equal(inputs, paper.train.transform(paper.train.inputs[picked], draws))


def test_the_loaders_can_be_pickled():
    for load in LOADERS.values():
        assert pickle.loads(pickle.dumps(partial(load))).func is load


# ---- what is refused


def test_a_missing_data_set(data, tmp_path):
    message = refusal(idx.load_fashion_mnist)
    for part in (str(data / "FashionMNIST"), str(data / "FashionMNIST" / "raw"), str(tmp_path / "debian")):
        assert part in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "FISHERBENCH_DATA" in message
    assert "FISHERBENCH_OFFLINE is set" in message


def test_a_lacking_file(mnist):
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    message = refusal(idx.load_mnist)
    assert "not whole: it lacks t10k-labels-idx1-ubyte.gz or t10k-labels-idx1-ubyte; " in message


@pytest.mark.parametrize("compressed", [True, False])
def test_the_real_checksums_are_not_those_of_other_files(data, monkeypatch, tmp_path, compressed):
    write_idx(data / "FashionMNIST", idx_set(), compressed)
    monkeypatch.undo()
    monkeypatch.setenv("FISHERBENCH_DATA", str(data))
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    message = refusal(idx.load_fashion_mnist)
    assert (
        f"train-images-idx3-ubyte{'.gz' if compressed else ''} is corrupt: the MD5 of it, uncompressed, is" in message
    )
    assert "must be f4a8712d7a061bf5bd6d2ca38dc4d50a; get it again" in message
    assert not list((tmp_path / "cache").iterdir())


def test_a_half_downloaded_file(data):
    write_idx(data / "MNIST", idx_set(), compressed=True)
    path = data / "MNIST" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-10])
    assert f"{path} cannot be read: Compressed file ended" in refusal(idx.load_mnist)


def test_a_file_with_a_flipped_bit(data):
    write_idx(data / "MNIST", idx_set(), compressed=True)
    path = data / "MNIST" / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{path} cannot be read: " in refusal(idx.load_mnist)


def test_a_file_that_is_not_compressed_but_called_so(data):
    write_idx(data / "MNIST", idx_set(), compressed=True)
    (data / "MNIST" / "train-labels-idx1-ubyte.gz").write_bytes(b"<html>404</html>")
    assert "cannot be read: Not a gzipped file" in refusal(idx.load_mnist)


IMAGES = idx_bytes(idx_set()["train-images-idx3-ubyte"])
LABELS = idx_bytes(idx_set()["train-labels-idx1-ubyte"])
WRONG = {
    "truncated": ("train-images-idx3-ubyte", IMAGES[:-1], "must hold 16 + 60 x 28 x 28 bytes, as its header says, but"),
    "too long": (
        "train-images-idx3-ubyte",
        IMAGES + b"x",
        "must hold 16 + 60 x 28 x 28 bytes, as its header says, but",
    ),
    "header cut off": ("train-images-idx3-ubyte", IMAGES[:9], "must hold 16 + 60 x 0 x 0 bytes"),
    "no bytes": ("train-images-idx3-ubyte", b"", "must begin with the bytes 00 00 08 03, but has"),
    "a web page": ("train-images-idx3-ubyte", b"<html>", "must begin with the bytes 00 00 08 03, but has 3c 68 74 6d"),
    "labels for images": ("train-images-idx3-ubyte", LABELS, "but has 00 00 08 01"),
    "images for labels": ("train-labels-idx1-ubyte", IMAGES, "must begin with the bytes 00 00 08 01"),
    "other size": (
        *("train-images-idx3-ubyte", idx_bytes(torch.zeros(60, 28, 27))),
        "holds images of 28 x 27 pixels, must be 28 x 28",
    ),
    "other pixels": ("train-images-idx3-ubyte", IMAGES[:-1] + b"x", "train-images-idx3-ubyte is corrupt: the MD5"),
}


@pytest.mark.parametrize(("name", "content", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_file(mnist, tmp_path, name, content, message):
    (mnist / name).write_bytes(content)
    assert message in refusal(idx.load_mnist)
    assert not list((tmp_path / "cache").iterdir())


PUBLISHED_WRONG = {
    "no images": ({"train-images-idx3-ubyte": torch.zeros(0, 28, 28)}, "holds 60 labels for 0 images"),
    "too few labels": ({"train-labels-idx1-ubyte": torch.zeros(59)}, "holds 59 labels for 60 images"),
    "wrong label": ({"t10k-labels-idx1-ubyte": torch.full((20,), 10)}, "the label 10; labels must be in [0, 10)"),
    "too few of a class": (
        {"train-labels-idx1-ubyte": torch.arange(60).clamp(max=1)},
        "holds 60 training images, too few to hold 10 of them out for validation",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), PUBLISHED_WRONG.values(), ids=PUBLISHED_WRONG)
def test_a_set_that_does_not_fit_together(mnist, monkeypatch, tmp_path, wrong, message):
    arrays = {**idx_set(), **wrong}
    write_idx(mnist, arrays, compressed=False)
    publish_idx(monkeypatch, "MNIST", arrays)
    assert message in refusal(idx.load_mnist)
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_for_a_file(mnist):
    (mnist / "train-labels-idx1-ubyte").unlink()
    (mnist / "train-labels-idx1-ubyte").mkdir()
    assert "cannot be read" in refusal(idx.load_mnist)


# ---- downloads


def test_torchvision_downloads_to_where_it_would_itself(data, monkeypatch):
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "0")

    def download(self):
        write_idx(Path(self.raw_folder), idx_set(), compressed=False)

    monkeypatch.setattr(datasets.FashionMNIST, "download", download)
    assert len(idx.load_fashion_mnist().test) == 20
    assert sorted(path.name for path in (data / "FashionMNIST" / "raw").iterdir()) == sorted(idx_set())
    assert not leftovers(data)
    monkeypatch.setattr(datasets.FashionMNIST, "download", None)
    assert isinstance(idx.load_fashion_mnist(), Data)


def test_a_download_that_breaks_off_leaves_nothing(data, monkeypatch):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")

    def download(self):
        Path(self.raw_folder).mkdir(parents=True)
        (Path(self.raw_folder) / "train-images-idx3-ubyte.gz").write_bytes(b"half")
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried http://a, got:\n<timed out>\n")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    message = refusal(idx.load_mnist)
    assert (
        "it cannot be downloaded: Error downloading train-images-idx3-ubyte.gz: Tried http://a, got: <timed" in message
    )
    assert not list(data.rglob("*"))


# ---- the real one

REAL = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL}: apt-get install dataset-fashion-mnist")
def test_the_real_fashion_mnist(monkeypatch, tmp_path):
    monkeypatch.undo()  # the real checksums, place and sizes
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FISHERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    loaded = idx.load_fashion_mnist()
    for split, count in {"train": 5_500, "val": 500, "test": 1_000}.items():
        assert Counter(getattr(loaded, split).targets.tolist()) == dict.fromkeys(range(10), count)
    images = loaded.with_splits("paper").train.inputs.double() / 255
    assert images.shape == (60_000, 1, 28, 28)
    # the constants in the code, to the digits that they have
    assert images.mean().item() == pytest.approx(idx.FASHION_TRANSFORM.mean[0], abs=5e-5)
    assert images.std().item() == pytest.approx(idx.FASHION_TRANSFORM.std[0], abs=5e-5)
