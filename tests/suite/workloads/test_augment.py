import math
import pickle

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torchvision.transforms import InterpolationMode, functional

from suite.workloads.augment import Crop, Cutout, Flip, ImageTransform, ResizedCrop
from suite.workloads.base import Data, TensorSplit

LAST = 1 - 2**-24  # the greatest draw: float32 draws are multiples of 2^-24
SHAPES = [(5, 3, 32, 32), (4, 1, 28, 28), (3, 3, 9, 14), (2, 2, 7, 5)]
AUGMENTATIONS = [Crop(4), Crop(1), Crop(0), Flip(), Cutout(8), ResizedCrop()]
# float32 places in an image of <= 80 pixels are off by 80 * 2^-24 pixels or so, and neighbours differ by up to 255
RESIZED_ATOL = 2e-3


def bytes_of(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def draws_of(num_images, num_draws, seed=1):
    """Return draws with the extremes among them."""
    draws = torch.rand(num_images, num_draws, generator=torch.Generator().manual_seed(seed))
    draws[0], draws[1] = 0.0, LAST
    return draws


# ---- each augmentation against a plain one


def plain_crop(image, draws, padding):
    size = 2 * padding + 1
    down, right = math.floor(draws[0].item() * size), math.floor(draws[1].item() * size)
    height, width = image.shape[1:]
    return F.pad(image, [padding] * 4)[:, down : down + height, right : right + width]


def plain_cutout(image, draws, length):
    """Blank the square around a pixel, clipped at the edges, pixel by pixel."""
    height, width = image.shape[1:]
    y, x = math.floor(draws[0].item() * height), math.floor(draws[1].item() * width)
    image = image.clone()
    for row in range(max(0, y - length // 2), min(height, y + length // 2)):
        for column in range(max(0, x - length // 2), min(width, x + length // 2)):
            image[:, row, column] = 0
    return image


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop(shape, padding, dtype):
    images, draws = bytes_of(*shape).to(dtype), draws_of(shape[0], 2)
    found = Crop(padding)(images, draws)
    expected = torch.stack([plain_crop(image, own, padding) for image, own in zip(images, draws, strict=True)])
    assert found.is_contiguous()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip(shape, dtype):
    images, draws = bytes_of(*shape).to(dtype), draws_of(shape[0], 1)
    expected = [
        functional.hflip(image) if own.item() < 0.5 else image for image, own in zip(images, draws, strict=True)
    ]
    assert torch.equal(Flip()(images, draws), torch.stack(expected))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [2, 8, 16])
def test_cutout(shape, length):
    images, draws = torch.randn(shape), draws_of(shape[0], 2)
    expected = [plain_cutout(image, own, length) for image, own in zip(images, draws, strict=True)]
    assert torch.equal(Cutout(length)(images, draws), torch.stack(expected))


def test_cutout_may_lie_partly_outside():
    images = torch.ones(3, 3, 32, 32)
    draws = torch.tensor([[0.0, 0.0], [LAST, LAST], [0.5, 0.5]])
    blank = (Cutout(16)(images, draws) == 0).all(dim=1)
    assert blank.flatten(1).sum(dim=1).tolist() == [8 * 8, 9 * 9, 16 * 16]
    assert blank[0, :8, :8].all()
    assert blank[1, 23:, 23:].all()
    assert blank[2, 8:24, 8:24].all()


WINDOWS = [(0, 0, 64, 64), (0, 0, 32, 16), (10, 20, 30, 40), (24, 31, 40, 33), (63, 0, 1, 64), (5, 6, 1, 1)]


class Whole(ResizedCrop):
    """A window that is given."""

    def window(self, height, width, draws):
        return draws.unbind(1)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("size", [(64, 64), (70, 80)], ids=str)
def test_resized_crop_of_whole_pixels_is_that_of_torchvision(window, size):
    images = bytes_of(2, 3, *size)
    found = Whole()(images, torch.tensor([window, window], dtype=torch.float32))
    bilinear = InterpolationMode.BILINEAR
    expected = functional.resized_crop(images.float(), *window, list(size), bilinear, antialias=False)
    torch.testing.assert_close(found, expected, atol=RESIZED_ATOL, rtol=0)


def plain_bilinear(image, y, x):
    """Return the value between four pixels, whose centres are at halves."""
    height, width = image.shape[1:]
    y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = image[:, top, left] * (left + 1 - x) + image[:, top, right] * (x - left)
    lower = image[:, bottom, left] * (left + 1 - x) + image[:, bottom, right] * (x - left)
    return upper * (top + 1 - y) + lower * (y - top)


def test_resized_crop_of_fractional_windows():
    images, draws = bytes_of(6, 2, 9, 14), draws_of(6, 4)
    found = ResizedCrop()(images, draws)
    windows = torch.stack(ResizedCrop().window(9, 14, draws.double()), dim=1)
    for image, own, (top, left, height, width) in zip(images.double(), found, windows.tolist(), strict=True):
        for row in range(9):
            for column in range(14):
                y = min(max(top + height * (row + 0.5) / 9, top + 0.5), top + height - 0.5)
                x = min(max(left + width * (column + 0.5) / 14, left + 0.5), left + width - 0.5)
                expected = plain_bilinear(image, y, x).float()
                torch.testing.assert_close(own[:, row, column], expected, atol=RESIZED_ATOL, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (50, 200), (200, 50)], ids=str)
def test_windows_have_the_area_and_the_ratio_that_are_asked_for(size):
    height, width = size
    draws = draws_of(2000, 4)
    top, left, part_height, part_width = ResizedCrop(scale=(0.08, 0.2)).window(height, width, draws)
    for start, length, whole in ((top, part_height, height), (left, part_width, width)):
        assert (start >= 0).all()
        assert (length > 0).all()
        assert (start + length <= whole * (1 + 1e-6)).all()
    area, ratio = part_height * part_width / (height * width), part_width / part_height
    fits = (part_height < height) & (part_width < width)
    torch.testing.assert_close(area[fits], (0.08 + 0.12 * draws[:, 0])[fits])
    torch.testing.assert_close(ratio[fits].log(), ((2 * draws[:, 1] - 1) * math.log(4 / 3))[fits], atol=1e-5, rtol=0)
    assert fits.float().mean() > 0.6


# ---- what holds of all


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_the_same_draws_make_the_same_images(augmentation):
    images, draws = torch.randn(40, 3, 16, 16), draws_of(40, augmentation.num_draws)
    before = images.clone()
    whole = augmentation(images, draws)
    order = torch.randperm(40)
    assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
    assert torch.equal(augmentation(images, draws), whole)
    assert torch.equal(augmentation(images[order], draws[order]), whole[order])
    parts = [augmentation(*part) for part in zip(images.split(7), draws.split(7), strict=True)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(images, before)
    assert pickle.loads(pickle.dumps(augmentation)) == augmentation


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
@pytest.mark.parametrize("number", [0.0, 0.5, 0.5 - 2**-24, LAST])
def test_extreme_draws_stay_in_range(augmentation, number):
    images = 1 + torch.rand(4, 3, 33, 17)
    found = augmentation(images, torch.full((4, augmentation.num_draws), number))
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert found.amax(dim=(1, 2, 3)).ge(1).all()  # something of the image is left


@pytest.mark.parametrize("padding", range(40))
def test_the_greatest_draw_is_the_greatest_offset(padding):
    images = bytes_of(2, 1, 3, 3)
    found = Crop(padding)(images, torch.tensor([[0.0, LAST], [LAST, 0.0]]))
    padded = F.pad(images, [padding] * 4)
    expected = torch.stack([padded[0, :, :3, 2 * padding :], padded[1, :, 2 * padding :, :3]])
    assert torch.equal(found, expected)


def test_every_offset_occurs_as_often():
    marked = torch.zeros(1, 1, 9, 9)
    marked[0, 0, 4, 4] = 1  # which stays inside at all 81 offsets
    num_images = 81 * 400
    draws = torch.rand(num_images, 2, generator=torch.Generator().manual_seed(0))
    places = Crop(4)(marked.expand(num_images, -1, -1, -1), draws).flatten(1)
    assert (places.sum(dim=1) == 1).all()
    counts = places.sum(dim=0)
    statistic = ((counts - 400) ** 2 / 400).sum().item()
    assert statistic < 125  # chi-square with 80 degrees of freedom: the 0.1 % quantile from above is 124.8


def test_every_second_image_is_mirrored():
    images = torch.tensor([1.0, 2.0]).expand(10_000, 1, 1, 2)
    draws = torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0))
    share = (Flip()(images, draws)[:, 0, 0, 0] == 2).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.015)  # three standard errors


# ---- transforms

MEAN, STD = (0.5, 0.25, 0.1), (0.2, 0.3, 0.4)
CIFAR = ImageTransform(MEAN, STD, (Crop(4), Flip()), (Cutout(16),))


def standardized(images):
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (images / 255 - mean) / std


def test_without_draws_images_are_standardized_only():
    images = bytes_of(5, 3, 32, 32)
    found = CIFAR(images, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, standardized(images))


def test_each_augmentation_has_its_own_draws_and_its_place():
    images, draws = bytes_of(6, 3, 32, 32), draws_of(6, 5)
    assert CIFAR.num_draws == 5
    for image, own, found in zip(images, draws, CIFAR(images, draws), strict=True):
        expected = plain_crop(image, own[:2], 4)
        expected = standardized(expected.flip(2) if own[2] < 0.5 else expected)
        torch.testing.assert_close(found, plain_cutout(expected, own[3:], 16))


def test_cutout_fills_with_the_mean_colour_and_crop_with_black():
    images = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    found = CIFAR(images, torch.tensor([[0.0, 0.0, 0.9, 0.5, 0.5]]))[0]
    assert (found[:, 8:24, 8:24] == 0).all()
    torch.testing.assert_close(found[:, 0, 0], standardized(torch.zeros(3, 1, 1))[:, 0, 0])


def test_augmentations_of_floats_come_before_the_standardization():
    images, draws = bytes_of(4, 3, 32, 32), draws_of(4, 5)
    transform = ImageTransform(MEAN, STD, (ResizedCrop(), Flip()))
    expected = standardized(Flip()(ResizedCrop()(images, draws[:, :4]), draws[:, 4:]))
    torch.testing.assert_close(transform(images, draws), expected)


def test_the_stored_images_are_not_written_to():
    images = bytes_of(4, 3, 32, 32)
    for stored in (images, images.float()):
        before = stored.clone()
        CIFAR(stored, draws_of(4, 5))
        CIFAR(stored, None)
        assert torch.equal(stored, before)


def test_results_do_not_share_memory():
    images = bytes_of(4, 3, 32, 32)
    first = CIFAR(images, None)
    CIFAR(images, None).zero_()
    assert torch.equal(first, CIFAR(images, None))


def test_a_transform_can_be_pickled():
    assert pickle.loads(pickle.dumps(CIFAR)) == CIFAR


# ---- splits


def split_of(num_images, transform, seed):
    return TensorSplit(bytes_of(num_images, 3, 32, 32, seed=seed), torch.arange(num_images), transform)


def test_the_papers_splits_augment_all_training_images():
    plain = ImageTransform(MEAN, STD)
    data = Data(split_of(9, CIFAR, 1), split_of(5, plain, 2), split_of(4, plain, 3))
    paper = data.with_splits("paper")
    assert (len(paper.train), paper.val, paper.test) == (14, None, data.test)
    assert (data.val.num_draws, paper.train.num_draws) == (0, 5)
    picked, draws = torch.tensor([10, 2]), draws_of(2, 5)
    inputs, targets = paper.train.take(picked, draws)
    assert torch.equal(inputs, CIFAR(torch.stack([data.val.inputs[1], data.train.inputs[2]]), draws))
    assert targets.tolist() == [1, 2]


def test_what_is_taken_depends_on_no_generator():
    split, draws = split_of(9, CIFAR, 1), draws_of(9, 5)
    before = torch.get_rng_state()
    first, _ = split.take(torch.arange(9), draws)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(split.take(torch.tensor([7, 3]), draws[[7, 3]])[0], first[[7, 3]])
