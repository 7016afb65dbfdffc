import pickle
from functools import partial

import pytest
import torch
from torchvision import datasets

from suite.workloads.augment import Crop, Cutout, Flip
from suite.workloads.images import cifar
from tests.suite.workloads.images.formats import (
    Boom,
    leftovers,
    pixels_by_label,
    publish_cifar,
    refusal,
    write_cifar,
)

DATASETS = {10: datasets.CIFAR10, 100: datasets.CIFAR100}
NUM_TRAIN = {10: 5 * 20, 100: 200}


@pytest.fixture(params=[10, 100])
def num_classes(request, monkeypatch):
    monkeypatch.setattr(cifar, "NUM_VAL", request.param)
    return request.param


@pytest.fixture
def written(data, monkeypatch, num_classes):
    """Images and labels of the training and of the test files, small but as if they were published."""
    dataset = DATASETS[num_classes]
    parts = write_cifar(data, dataset, num_images=20 if num_classes == 10 else 200)
    publish_cifar(monkeypatch, data, dataset)
    return parts


def test_all_pixels_and_labels_are_read(written, num_classes):
    (images, labels), (test_images, test_labels) = written
    loaded = cifar.load_cifar(num_classes, cutout=False)
    assert torch.equal(loaded.test.inputs, test_images)
    assert torch.equal(loaded.test.targets, test_labels)
    inputs = torch.cat([loaded.train.inputs, loaded.val.inputs])
    targets = torch.cat([loaded.train.targets, loaded.val.targets])
    assert (len(loaded.train), len(loaded.val)) == (NUM_TRAIN[num_classes] - num_classes, num_classes)
    assert pixels_by_label(inputs, targets) == pixels_by_label(images, labels)
    assert (inputs.dtype, targets.dtype) == (torch.uint8, torch.int64)
    assert loaded.val.targets.sort().values.tolist() == list(range(num_classes))


def test_only_training_images_are_augmented(written, num_classes):
    plain, blanked = (cifar.load_cifar(num_classes, cutout) for cutout in (False, True))
    assert plain.train.transform.before == blanked.train.transform.before == (Crop(4), Flip())
    assert (plain.train.transform.after, blanked.train.transform.after) == ((), (Cutout(16),))
    assert [split.num_draws for split in (plain.train, plain.val, plain.test)] == [3, 0, 0]
    assert [split.num_draws for split in (blanked.train, blanked.val, blanked.test)] == [5, 0, 0]
    assert torch.equal(plain.train.inputs, blanked.train.inputs)


def test_images_are_standardized_by_channel(written, num_classes):
    test = cifar.load_cifar(num_classes, cutout=True).test
    mean, std = (torch.tensor(each)[:, None, None] for each in cifar.MEAN_STD[num_classes])
    torch.testing.assert_close(test.take(torch.tensor([1, 1, 0]))[0], (test.inputs[[1, 1, 0]] / 255 - mean) / std)


def test_the_papers_splits_train_on_all(written, num_classes):
    paper = cifar.load_cifar(num_classes, cutout=True).with_splits("paper")
    assert pixels_by_label(paper.train.inputs, paper.train.targets) == pixels_by_label(*written[0])
    assert (paper.val, paper.train.num_draws, paper.test.num_draws) == (None, 5, 0)


def test_the_second_time_comes_from_the_cache(written, num_classes, data, monkeypatch):
    first = cifar.load_cifar(num_classes, cutout=False)
    monkeypatch.setattr(cifar, "verify", None)
    assert torch.equal(cifar.load_cifar(num_classes, cutout=True).train.inputs, first.train.inputs)


def test_the_loader_can_be_pickled():
    load = pickle.loads(pickle.dumps(partial(cifar.load_cifar, 10, cutout=True)))
    assert load.func is cifar.load_cifar


# ---- what is refused


def test_another_number_of_classes():
    assert refusal(lambda: cifar.load_cifar(20, cutout=False)) == "num_classes=20 must be one of 10, 100"


def test_a_missing_data_set(data, num_classes):
    message = refusal(lambda: cifar.load_cifar(num_classes, cutout=False))
    dataset = DATASETS[num_classes]
    assert f"{dataset.base_folder!r} was not found in {data / dataset.base_folder}" in message
    assert dataset.url in message


def test_a_lacking_file_is_told_from_a_corrupt_one(written, data, num_classes):
    dataset = DATASETS[num_classes]
    path = data / dataset.base_folder / dataset.test_list[0][0]
    content = path.read_bytes()
    path.unlink()
    assert f"is not whole: it lacks {path.name};" in refusal(lambda: cifar.load_cifar(num_classes, cutout=False))
    path.write_bytes(content[:-1])
    assert f"{path} is corrupt or half-downloaded" in refusal(lambda: cifar.load_cifar(num_classes, cutout=False))
    path.write_bytes(content)
    assert len(cifar.load_cifar(num_classes, cutout=False).test)


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
def test_nothing_is_unpickled_before_all_checksums_hold(data, monkeypatch, tmp_path, name):
    write_cifar(data, datasets.CIFAR10)
    publish_cifar(monkeypatch, data, datasets.CIFAR10)
    path = data / "cifar-10-batches-py" / name
    path.write_bytes(pickle.dumps(Boom(tmp_path / "trace")))
    assert f"{path} is corrupt or half-downloaded" in refusal(lambda: cifar.load_cifar(10, cutout=False))
    assert not (tmp_path / "trace").exists()
    assert not list((tmp_path / "cache").iterdir())


def test_the_real_checksums_are_not_those_of_other_files(data):
    write_cifar(data, datasets.CIFAR10)
    message = refusal(lambda: cifar.load_cifar(10, cutout=False))
    assert "data_batch_1 is corrupt or half-downloaded" in message
    assert "published is c99cafc152244af753f735de768cd75f" in message


def test_a_label_out_of_range(data, monkeypatch, tmp_path):
    write_cifar(data, datasets.CIFAR10)
    path = data / "cifar-10-batches-py" / "data_batch_2"
    content = pickle.loads(path.read_bytes())
    content["labels"][3] = -1
    path.write_bytes(pickle.dumps(content))
    publish_cifar(monkeypatch, data, datasets.CIFAR10)
    message = refusal(lambda: cifar.load_cifar(10, cutout=False))
    assert "holds the label -1; labels must be in [0, 10)" in message
    assert not list((tmp_path / "cache").iterdir())


# ---- downloads


def test_torchvision_downloads_to_where_it_would_itself(data, monkeypatch, tmp_path):
    monkeypatch.delenv("FISHERBENCH_OFFLINE")
    monkeypatch.setattr(cifar, "NUM_VAL", 10)
    write_cifar(tmp_path / "published", datasets.CIFAR10)
    publish_cifar(monkeypatch, tmp_path / "published", datasets.CIFAR10)
    source = tmp_path / "published" / "cifar-10-batches-py"

    def unpack(url, root, filename, md5):
        folder = data.parent.joinpath(root, "cifar-10-batches-py")
        folder.mkdir(exist_ok=True)
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        folder.with_name(filename).write_bytes(b"the archive, which nobody needs any more")

    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", unpack)
    assert len(cifar.load_cifar(10, cutout=False).test) == 40
    assert [path.name for path in data.iterdir()] == ["cifar-10-batches-py"]
    assert not leftovers(data)
