import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from suite.errors import UsageError
from suite.workloads.networks import pretrained
from suite.workloads.networks.convolutional import densenet121_cifar, mobilenetv3_cifar
from suite.workloads.networks.resnet import resnet_cifar


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of local weights, and no other place that has any."""
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "data" / "weights").mkdir(parents=True)
    return tmp_path / "data" / "weights"


@pytest.fixture
def publish(folder, monkeypatch) -> Callable[..., Path]:
    """Write a file as if torchvision had published it."""

    def write(content: object, name: str = "net", into: Path = folder) -> Path:
        if not isinstance(content, bytes):
            buffer = io.BytesIO()
            torch.save(content, buffer)
            content = buffer.getvalue()
        path = into / f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        into.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        monkeypatch.setattr(pretrained, "published_url", lambda _: f"https://example.org/models/{path.name}")
        return path

    return write


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def load(model: nn.Module) -> nn.Module:
    pretrained.load_pretrained(model, "net", fresh=("0", "2"))
    return model


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("resnet18", "https://download.pytorch.org/models/resnet18-f37072fd.pth"),
        ("resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"),
        ("resnet101", "https://download.pytorch.org/models/resnet101-63fe2227.pth"),
        ("densenet121", "https://download.pytorch.org/models/densenet121-a639ec97.pth"),
        ("mobilenet_v3_large", "https://download.pytorch.org/models/mobilenet_v3_large-8738ca79.pth"),
    ],
)
def test_the_published_files(name, url):
    assert pretrained.published_url(name) == url


def old_names(key: str) -> str:
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)


@pytest.mark.parametrize(
    ("name", "build", "fresh"),
    [
        ("resnet18", lambda **options: resnet_cifar(18, 10, **options), {"conv1", "fc"}),
        ("densenet121", lambda **options: densenet121_cifar(10, **options), {"features.conv0", "classifier"}),
        ("mobilenet_v3_large", lambda **options: mobilenetv3_cifar(10, **options), {"classifier.3"}),
    ],
    ids=["resnet18", "densenet121", "mobilenetv3"],
)
def test_all_but_the_changed_layers_are_the_published_ones(name, build, fresh, publish):
    from torchvision.models import get_model

    published = {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in get_model(name).state_dict().items()
    }
    publish({old_names(key): value for key, value in published.items()}, name)
    torch.manual_seed(3)
    random = build().state_dict()
    generator = torch.get_rng_state()
    torch.manual_seed(3)
    transferred = build(pretrained=True).state_dict()
    assert torch.equal(torch.get_rng_state(), generator)
    for key, value in transferred.items():
        is_fresh = key.rpartition(".")[0] in fresh
        assert torch.equal(value, random[key] if is_fresh else published[key]), key
    drawn = {key.rpartition(".")[0] for key in transferred if torch.equal(transferred[key], random[key])}
    assert fresh <= drawn


def test_weights_without_counts_of_batches_will_do(publish):
    """As DenseNet's, which are older than the counts."""
    stored = {key: value for key, value in small().state_dict().items() if not key.endswith("num_batches_tracked")}
    stored["1.weight"] = torch.arange(4.0)
    publish(stored)
    assert torch.equal(load(small())[1].weight, torch.arange(4.0))


def test_the_cache_of_torch_hub_is_looked_in(publish, tmp_path):
    stored = small().state_dict()
    stored["1.bias"] = torch.arange(4.0)
    publish(stored, into=tmp_path / "torch" / "hub" / "checkpoints")
    assert torch.equal(load(small())[1].bias, torch.arange(4.0))


def test_a_missing_file_says_where_it_belongs(publish, folder):
    path = publish(small().state_dict())
    path.unlink()
    with pytest.raises(UsageError) as error:
        load(small())
    assert str(error.value) == (
        f"the weights '{path.name}' were not found in {folder} and {folder.parents[1]}/torch/hub/checkpoints; they "
        f"cannot be downloaded: FISHERBENCH_OFFLINE is set; get https://example.org/models/{path.name} into the first "
        "folder, or set FISHERBENCH_DATA"
    )


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-100], lambda data: data + b"x", lambda data: b""], ids=["half", "more", "empty"]
)
def test_a_corrupt_file_is_refused(publish, spoil):
    path = publish(small().state_dict())
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UsageError, match="is corrupt or half-downloaded: its SHA-256 begins with") as error:
        load(small())
    assert str(path) in str(error.value) and "https://example.org/models/net-" in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"not a file of torch", [1, 2], {"weight": 1}, {"model": {"weight": torch.ones(1)}}], ids=repr
)
def test_a_file_of_something_else_is_refused(publish, content):
    path = publish(content)
    with pytest.raises(UsageError, match="holds no weights of PyTorch") as error:
        load(small())
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def other_weights() -> Iterator[tuple[str, dict[str, torch.Tensor], str]]:
    whole = small().state_dict()
    yield "lacking", {key: value for key, value in whole.items() if key != "1.bias"}, "it lacks 1.bias$"
    yield "more", {**whole, "3.weight": torch.ones(1)}, "it has 3.weight$"
    yield "shape", {**whole, "1.bias": torch.ones(5)}, r"it has 1.bias of shape \[5\], not \[4\]$"
    yield (
        "other",
        {f"layer.{n}": torch.ones(1) for n in range(9)},
        r"it has layer.0, has layer.1, has layer.2 and 10 more$",
    )


@pytest.mark.parametrize(("stored", "message"), [pytest.param(*rest, id=name) for name, *rest in other_weights()])
def test_weights_of_another_network_are_refused(publish, stored, message):
    publish(stored)
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=message):
        load(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def served(path: Path, monkeypatch) -> bytes:
    """Move a local file to where downloads come from; no test goes to the network."""
    content = path.read_bytes()
    path.unlink()
    elsewhere = path.parents[2] / "served" / path.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(content)
    monkeypatch.setattr(pretrained, "published_url", lambda _: elsewhere.as_uri())
    monkeypatch.delenv("FISHERBENCH_OFFLINE")
    return content


def test_a_download_is_kept(publish, folder, monkeypatch):
    path = publish(small().state_dict())
    content = served(path, monkeypatch)
    load(small())
    assert [each.name for each in folder.iterdir()] == [path.name] and path.read_bytes() == content


@pytest.mark.parametrize("content", [b"half", None], ids=["corrupt", "unreachable"])
def test_a_failed_download_leaves_nothing(publish, folder, monkeypatch, content):
    path = publish(small().state_dict())
    served(path, monkeypatch)
    elsewhere = path.parents[2] / "served" / path.name
    elsewhere.unlink() if content is None else elsewhere.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be downloaded: (invalid hash value|<urlopen error)") as error:
        load(small())
    assert list(folder.iterdir()) == [] and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made_is_reported(publish, tmp_path, monkeypatch):
    path = publish(small().state_dict())
    served(path, monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot be downloaded: .*Not a directory"):
        load(small())
