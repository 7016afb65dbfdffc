import pickle
import re

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional

from suite.workloads.augment import ResizedCrop
from suite.workloads.images import imagenet
from suite.workloads.images.imagenet import FolderSplit, load_imagenet
from tests.suite.workloads.images.formats import CLASSES, SIZES, photograph, refusal, rgb, save_jpeg, write_imagenet

MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
LAST = 1 - 2**-24  # the greatest draw


@pytest.fixture(autouse=True)
def folder(data, monkeypatch):
    """ImageNet with two classes of four and two images."""
    monkeypatch.setattr(imagenet, "NUM_CLASSES", len(CLASSES))
    monkeypatch.setattr(imagenet, "NUM_IMAGES", {"train": 8, "val": 4})
    monkeypatch.setattr(imagenet, "NUM_VAL", 2)
    return write_imagenet(data)


@pytest.fixture
def train(folder):
    """All images that training takes."""
    return load_imagenet().with_splits("paper").train


def standardized(pixels):
    return (pixels / 255 - MEAN) / STD


def test_the_splits_hold_all_files_once(folder):
    loaded = load_imagenet()
    found = ImageFolder(str(folder / "train"))
    pairs = [*zip(loaded.train.files, loaded.train.targets.tolist(), strict=True)]
    pairs += zip(loaded.val.files, loaded.val.targets.tolist(), strict=True)
    assert sorted(pairs) == found.samples
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == (6, 2, 4)
    assert sorted(loaded.val.targets.tolist()) == [0, 1]
    assert [*zip(loaded.test.files, loaded.test.targets.tolist(), strict=True)] == ImageFolder(
        str(folder / "val")
    ).samples
    assert load_imagenet().val.files == loaded.val.files


def test_only_training_images_are_augmented():
    loaded = load_imagenet()
    splits = (loaded.train, loaded.val, loaded.test)
    assert [split.num_draws for split in splits] == [5, 0, 0]
    assert all(split.is_decoded for split in splits)


def test_the_papers_splits_train_on_all(folder):
    loaded = load_imagenet()
    paper = loaded.with_splits("paper")
    assert paper.train.files == (*loaded.train.files, *loaded.val.files)
    assert paper.train.targets.tolist() == [*loaded.train.targets, *loaded.val.targets]
    assert (paper.val, paper.train.num_draws, paper.test.num_draws) == (None, 5, 0)


def test_evaluated_images_are_resized_and_the_centre_cut_out(train):
    picked = torch.tensor([5, 0, 3, 1])
    inputs, targets = train.take(picked)
    for at, own, label in zip(picked.tolist(), inputs, targets.tolist(), strict=True):
        with Image.open(train.files[at]) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        scale = 256 / min(width, height)
        image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
        left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
        pixels = functional.pil_to_tensor(image.crop((left, top, left + 224, top + 224)))
        torch.testing.assert_close(own, standardized(pixels))
        assert label == train.targets[at]
    assert (inputs.shape, inputs.dtype) == ((4, 3, 224, 224), torch.float32)


def test_an_image_of_the_right_size_is_only_cut(train):
    at = next(at for at, file in enumerate(train.files) if Image.open(file).size == (256, 256))
    torch.testing.assert_close(
        train.take(torch.tensor([at]))[0][0], standardized(rgb(train.files[at])[:, 16:240, 16:240])
    )


def test_training_images_are_parts_stretched_and_mirrored(train):
    picked, draws = torch.arange(8), torch.rand(8, 5)
    draws[::2, 4], draws[1::2, 4] = 0.2, 0.7
    inputs, _ = train.take(picked, draws)
    for at, own in enumerate(inputs):
        image = Image.open(train.files[at]).convert("RGB")
        window = ResizedCrop().window(image.height, image.width, draws[at : at + 1, :4])
        top, left, height, width = (round(each.item()) for each in window)
        part = functional.resized_crop(image, top, left, height, width, [224, 224])
        pixels = functional.pil_to_tensor(functional.hflip(part) if draws[at, 4] < 0.5 else part)
        torch.testing.assert_close(own, standardized(pixels))


def test_neither_order_nor_batches_nor_threads_change_an_image(train, monkeypatch):
    draws = torch.rand(8, 5)
    whole, labels = train.take(torch.arange(8), draws)
    order = torch.tensor([6, 1, 7, 0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    parts, own = train.take(order, draws[order])
    assert torch.equal(parts, whole[order])
    assert torch.equal(own, labels[order])


def test_extreme_draws_stay_inside(train):
    for number in (0.0, LAST):
        inputs, _ = train.take(torch.arange(8), torch.full((8, 5), number))
        assert inputs.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_tiny_images_are_taken(tmp_path, size):
    save_jpeg(tmp_path / "image.JPEG", photograph(*size, seed=0))
    split = FolderSplit((str(tmp_path / "image.JPEG"),), torch.tensor([0]), ResizedCrop())
    for number in (0.0, 0.4, LAST):
        assert split.take(torch.tensor([0]), torch.full((1, 5), number))[0].shape == (1, 3, 224, 224)


def test_other_colours_become_rgb(tmp_path):
    for mode in ("L", "CMYK", "RGB"):
        save_jpeg(tmp_path / f"{mode}.JPEG", Image.new("RGB", (300, 300), (90, 90, 90)).convert(mode))
    Image.new("RGBA", (300, 300), (90, 90, 90, 255)).save(tmp_path / "RGBA.JPEG", "PNG")  # ImageNet has one such file
    files = tuple(str(path) for path in tmp_path.glob("*.JPEG"))
    inputs, _ = FolderSplit(files, torch.zeros(4, dtype=torch.int64)).take(torch.arange(4))
    expected = standardized(torch.full((4, 3, 224, 224), 90.0))
    torch.testing.assert_close(inputs, expected, atol=0.02, rtol=0)  # one grey level is 0.017 of a deviation


def test_a_split_stays_where_it_is(train):
    assert train.to(torch.device("cpu")) is train


def test_the_loader_and_its_splits_can_be_pickled(train):
    assert pickle.loads(pickle.dumps(load_imagenet)) is load_imagenet
    assert pickle.loads(pickle.dumps(train)).files == train.files


# ---- what is refused


@pytest.mark.parametrize("content", [b"", b"<html>", None], ids=["no bytes", "a web page", "half an image"])
def test_an_image_that_cannot_be_decoded_is_named(train, content):
    file = train.files[2]
    with open(file, "rb") as opened:
        half = opened.read()[:-500]
    with open(file, "wb") as opened:
        opened.write(half if content is None else content)
    for draws in (None, torch.rand(8, 5)):
        message = refusal(lambda draws=draws: train.take(torch.arange(8), draws))
        assert message.startswith(f"the image {file} cannot be decoded: ")


def test_an_image_that_is_gone_is_named(train, folder):
    folder.rename(folder.with_name("elsewhere"))
    assert train.files[0] in refusal(lambda: train.take(torch.tensor([0])))


def empty(path):
    for each in path.iterdir():
        each.unlink()


def flatten(path):
    for image in [*path.glob("*/*")]:
        image.rename(path / f"{image.parent.name}_{image.name}")
    for each in path.iterdir():
        if each.is_dir():
            each.rmdir()


BROKEN = {
    "no val": (lambda top: (top / "val").rename(top / "other"), r"imagenet is not whole: it lacks val; unpack ILSVRC"),
    "no folders": (
        lambda top: flatten(top / "val"),
        r"val cannot be read: Couldn't find any class folder .*of its class",
    ),
    "no images": (lambda top: empty(top / "train/n2"), r"train cannot be read: Found no valid file for the classes n2"),
    "a class too many": (
        lambda top: save_jpeg(top / "train/n3/a.JPEG", photograph(8, 8, seed=0)),
        r"train holds 3 classes, must be 2",
    ),
    "an image too few": (lambda top: next((top / "val/n1").iterdir()).unlink(), r"val holds 3 images, must be 4"),
    "other classes": (
        lambda top: (top / "val/n2").rename(top / "val/n3"),
        r"train and val must have the same classes, but one lacks 'n2'",
    ),
    "a file": (
        lambda top: [(top / "val").rename(top / "other"), (top / "val").write_text("")],
        r"val cannot be read: .*Not a directory",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_set(folder, damage, message):
    damage(folder)
    assert re.search(message, refusal(load_imagenet))


def test_a_missing_set(folder):
    folder.rename(folder.with_name("elsewhere"))
    message = refusal(load_imagenet)
    assert f"'imagenet' was not found in {folder}" in message
    assert "https://image-net.org" in message


def test_too_few_images_for_a_validation_split(monkeypatch):
    monkeypatch.setattr(imagenet, "NUM_VAL", len(SIZES) * 2)
    assert "holds 8 training images, too few to hold 8 of them out for validation" in refusal(load_imagenet)
