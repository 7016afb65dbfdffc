"""What a workload says of how many training samples it has is what it loads."""

from pathlib import Path

import pytest
from torchvision import datasets

from suite.workloads import REGISTRY, find
from suite.workloads.images import cifar, idx, imagenet, tiny_imagenet

OFFLINE = ["digits", "digits_cutout", "digits_rotation", "digits_mlp", "iris"]  # in Python's own packages
DEBIAN = pytest.mark.skipif(not Path(idx.DEBIAN_FASHION).exists(), reason="dataset-fashion-mnist is not installed")
OTHER_PYTHON = 0.3  # by which part the documentation of another Python may be longer or shorter


@pytest.mark.parametrize("name", REGISTRY)
def test_every_workload_says_it(name):
    spec = REGISTRY[name]
    assert spec.num_train_with("standard") == spec.num_train >= spec.batch_size
    assert spec.num_train_with("paper") == spec.num_train_paper > spec.num_train


@pytest.mark.parametrize("name", [*OFFLINE, pytest.param("fashion_mnist_resnet8", marks=DEBIAN)])
@pytest.mark.parametrize("splits", ["standard", "paper"])
def test_it_is_what_is_loaded(name, splits):
    num_train = len(find(name).load().with_splits(splits).train)
    assert find(name).num_train_with(splits) == num_train


def test_the_documentation_of_this_python_is_not_far_from_what_is_said():
    data = find("pydoc_gpt").load()
    for splits in ("standard", "paper"):
        said = find("pydoc_gpt").num_train_with(splits)
        assert said == pytest.approx(len(data.with_splits(splits).train), rel=OTHER_PYTHON)


@pytest.mark.parametrize("name", [name for name in REGISTRY if name.startswith("cifar")])
def test_cifar_by_its_published_batches(name):
    batches = {10: len(datasets.CIFAR10.train_list), 100: 5 * len(datasets.CIFAR100.train_list)}
    published = 10_000 * batches[REGISTRY[name].load.args[0]]
    assert (REGISTRY[name].num_train, REGISTRY[name].num_train_paper) == (published - cifar.NUM_VAL, published)


def test_imagenets_by_what_their_loaders_insist_on():
    assert find("imagenet_resnet50").num_train_paper == imagenet.NUM_IMAGES["train"]
    assert find("imagenet_resnet50").num_train == imagenet.NUM_IMAGES["train"] - imagenet.NUM_VAL
    for name in ("tiny_imagenet_resnet50", "tiny_imagenet_swin_b"):
        published = tiny_imagenet.NUM_CLASSES * tiny_imagenet.NUM_PER_CLASS
        assert (find(name).num_train, find(name).num_train_paper) == (published - tiny_imagenet.NUM_VAL, published)


@pytest.mark.parametrize("name", ["mnist_cnn", "fashion_mnist_resnet8", "fashion_mnist_vit"])
def test_mnist_and_fashion_mnist_as_published(name):
    assert (find(name).num_train, find(name).num_train_paper) == (60_000 - idx.NUM_VAL, 60_000)
