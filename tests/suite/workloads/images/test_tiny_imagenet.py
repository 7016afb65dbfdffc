import pickle
import re

import pytest
import torch

from suite.workloads.augment import Flip, ResizedCrop
from suite.workloads.images import tiny_imagenet
from suite.workloads.images.tiny_imagenet import load_tiny_imagenet
from tests.suite.workloads.images.formats import (
    NUM_VAL,
    PER_CLASS,
    WNIDS,
    leftovers,
    photograph,
    pixels_by_label,
    refusal,
    rgb,
    save_jpeg,
    write_tiny_imagenet,
)


@pytest.fixture(autouse=True)
def folder(data, monkeypatch):
    """Tiny ImageNet, even smaller."""
    monkeypatch.setattr(tiny_imagenet, "NUM_CLASSES", len(WNIDS))
    monkeypatch.setattr(tiny_imagenet, "NUM_PER_CLASS", PER_CLASS)
    monkeypatch.setattr(tiny_imagenet, "NUM_VAL", NUM_VAL)
    return write_tiny_imagenet(data)


def test_all_pixels_and_labels_are_read(folder):
    loaded = load_tiny_imagenet()
    expected = [
        (rgb(path), label)
        for label, name in enumerate(sorted(WNIDS))
        for path in (folder / "train" / name / "images").iterdir()
    ]
    inputs = torch.cat([loaded.train.inputs, loaded.val.inputs])
    targets = torch.cat([loaded.train.targets, loaded.val.targets])
    assert pixels_by_label(inputs, targets) == pixels_by_label(*zip(*expected, strict=True))
    assert (inputs.dtype, inputs.shape[1:], targets.dtype) == (torch.uint8, (3, 64, 64), torch.int64)
    assert loaded.val.targets.sort().values.tolist() == [0, 1, 2]


def test_the_published_validation_images_are_the_test_split(folder):
    test = load_tiny_imagenet().test
    expected = [rgb(folder / "val" / "images" / f"val_{at}.JPEG") for at in range(5)]
    assert torch.equal(test.inputs, torch.stack(expected))
    assert test.targets.tolist() == [2, 0, 1, 2, 0]  # n03, n01, n02, n03, n01


def test_grey_images_have_three_equal_channels(folder):
    grey = load_tiny_imagenet().test.inputs[2]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


def test_many_threads_decode_the_same(folder, monkeypatch):
    first = load_tiny_imagenet().train.inputs
    (folder / "val" / "val_annotations.txt").touch()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert torch.equal(load_tiny_imagenet().train.inputs, first)


def test_only_training_images_are_augmented():
    loaded = load_tiny_imagenet()
    assert loaded.train.transform.before == (ResizedCrop(), Flip())
    assert [split.num_draws for split in (loaded.train, loaded.val, loaded.test)] == [5, 0, 0]
    inputs, _ = loaded.train.take(torch.arange(4), torch.rand(4, 5))
    assert (inputs.shape, inputs.dtype) == ((4, 3, 64, 64), torch.float32)


def test_the_papers_splits_train_on_all():
    paper = load_tiny_imagenet().with_splits("paper")
    assert (len(paper.train), paper.val, paper.train.num_draws) == (12, None, 5)


def test_nothing_is_decoded_twice_or_left_over(data, tmp_path, monkeypatch):
    first = load_tiny_imagenet()
    monkeypatch.setattr(tiny_imagenet, "read_image", None)
    assert torch.equal(load_tiny_imagenet().train.inputs, first.train.inputs)
    assert not leftovers(data, tmp_path / "cache")


def test_another_image_is_decoded(folder):
    load_tiny_imagenet()
    path = folder / "val" / "images" / "val_0.JPEG"
    path.unlink()
    save_jpeg(path, photograph(64, 64, seed=999))
    assert torch.equal(load_tiny_imagenet().test.inputs[0], rgb(path))


def test_the_loader_can_be_pickled():
    assert pickle.loads(pickle.dumps(load_tiny_imagenet)) is load_tiny_imagenet


# ---- what is refused

TRAIN = "train/n01/images/n01_2.JPEG"
ANNOTATIONS = "val/val_annotations.txt"


def remove(path):
    if path.is_dir():
        for each in path.iterdir():
            remove(each)
        path.rmdir()
    else:
        path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


BROKEN = {
    "no wnids": (lambda top: remove(top / "wnids.txt"), r"is not whole: it lacks wnids.txt; unpack http://cs231n"),
    "no annotations": (lambda top: remove(top / ANNOTATIONS), r"is not whole: it lacks val/val_annotations.txt"),
    "no test images": (lambda top: remove(top / "val/images"), r"is not whole: it lacks val/images"),
    "too few classes": (lambda top: (top / "wnids.txt").write_text("n01 n02"), r"names 2 classes, must be 3"),
    "not text": (lambda top: (top / "wnids.txt").write_bytes(b"\xff\xfe"), r"wnids.txt cannot be read: 'utf-8' codec"),
    "no folder of a class": (lambda top: remove(top / "train/n02"), r"train/n02/images is missing"),
    "an image too few": (lambda top: remove(top / TRAIN), r"train/n01/images holds 3 images, must be 4"),
    "a class without images": (
        lambda top: [remove(path) for path in (top / TRAIN).parent.iterdir()],
        r"train/n01/images holds 0 images, must be 4",
    ),
    "half an image": (lambda top: cut(top / TRAIN), rf"{TRAIN} cannot be decoded: image file is truncated"),
    "no bytes": (lambda top: (top / TRAIN).write_bytes(b""), rf"{TRAIN} cannot be decoded: cannot identify"),
    "a web page": (lambda top: (top / TRAIN).write_text("<html>"), rf"{TRAIN} cannot be decoded: cannot identify"),
    "a folder": (lambda top: [remove(top / TRAIN), (top / TRAIN).mkdir()], rf"{TRAIN} cannot be decoded: .*directory"),
    "a huge image": (
        # the header of a bitmap of 30,000 x 30,000 pixels: what a flipped bit may claim
        lambda top: (top / TRAIN).write_bytes(
            b"BM" + bytes(8) + b"6\0\0\0(\0\0\0" + 2 * (30_000).to_bytes(4, "little") + b"\1\0\x18\0" + bytes(24)
        ),
        rf"{TRAIN} cannot be decoded: Image size \(900000000 pixels\) exceeds",
    ),
    "another size": (
        lambda top: save_jpeg(top / TRAIN, photograph(64, 60, seed=0)),
        rf"{TRAIN} has 60 x 64 pixels, must be 64 x 64",
    ),
    "a test image too few": (lambda top: remove(top / "val/images/val_3.JPEG"), r"but 'val_3.JPEG' has no image"),
    "a test image too many": (
        lambda top: save_jpeg(top / "val/images/val_9.JPEG", photograph(64, 64, seed=0)),
        r"but 'val_9.JPEG' has no annotation",
    ),
    "an unknown class": (
        lambda top: (top / ANNOTATIONS).write_text("val_0.JPEG\tn01\t0\t0\t1\t1\nval_1.JPEG\tn77\t0\t0\t1\t1\n"),
        r"val_annotations.txt, line 2: unknown class 'n77', must be one of wnids.txt",
    ),
    "no columns": (
        lambda top: (top / ANNOTATIONS).write_text("val_0.JPEG n01\n"),
        r"val_annotations.txt, line 1: unknown class ''",
    ),
    "empty annotations": (lambda top: (top / ANNOTATIONS).write_text(""), r"but 'val_0.JPEG' has no annotation"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_set(folder, tmp_path, damage, message):
    damage(folder)
    assert re.search(message, refusal(load_tiny_imagenet))
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_missing_set(folder):
    folder.rename(folder.with_name("elsewhere"))
    message = refusal(load_tiny_imagenet)
    assert f"'tiny-imagenet-200' was not found in {folder}" in message
    assert "http://cs231n.stanford.edu/tiny-imagenet-200.zip" in message
