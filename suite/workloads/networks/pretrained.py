"""ImageNet weights as torchvision publishes them, from a local file or downloaded.

A file carries the first digits of its SHA-256 in its name (``resnet50-0676ba61.pth``), which are verified each time
that it is read.
"""

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from suite.errors import UsageError
from suite.workloads.files import data_folder, is_offline, one_line

NUM_NAMED = 3  # parameters that a message names at most
MAX_REASON = 120  # characters of torch's message, which goes on with advice


def published_url(name: str) -> str:
    """Return where torchvision publishes the first ImageNet weights of a network.

    Args:
        name: As ``torchvision.models.get_model`` takes it, e.g. ``resnet50``.

    Returns:
        A URL that ends in the file's name.
    """
    from torchvision.models import get_model_weights

    url: str = get_model_weights(name)["IMAGENET1K_V1"].url
    return url


def load_pretrained(model: nn.Module, name: str, *, fresh: Sequence[str]) -> None:
    """Copy ImageNet weights into a network, whose other parameters stay as they are.

    Args:
        model: The network, changed in place; nothing is drawn.
        name: As ``torchvision.models.get_model`` takes it.
        fresh: Modules by qualified name whose weights are not copied, such as the head.

    Raises:
        UsageError: If there is no file and none can be downloaded, if it is corrupt, or if it is another network's.
    """  # noqa: DOC502
    path = locate(published_url(name))
    stored = {_modern(key): value for key, value in _read(path).items()}
    taken = {key: value for key, value in stored.items() if not _lies_in(key, fresh)}
    _check(path, taken, {key: value for key, value in model.state_dict().items() if not _lies_in(key, fresh)})
    model.load_state_dict(taken, strict=False)


def locate(url: str) -> Path:
    """Return the file that a URL names, downloaded if it is nowhere on this machine.

    It is looked for in ``weights`` of :func:`suite.workloads.files.data_folder`, where a download goes too, and in the
    cache of ``torch.hub``.

    Args:
        url: Ends in the file's name.

    Returns:
        The file, verified.

    Raises:
        UsageError: If it is not found and cannot be downloaded, or is corrupt.
    """
    file = Path(urlparse(url).path).name
    mine = data_folder() / "weights" / file
    places = [mine, Path(torch.hub.get_dir()).expanduser() / "checkpoints" / file]
    found = next((path for path in places if path.exists()), None)
    if found is not None:
        _verify(found, url)
        return found
    why = "FISHERBENCH_OFFLINE is set" if is_offline() else _download(url, mine)
    if why:
        looked = " and ".join(str(path.parent) for path in places)
        raise UsageError(
            f"the weights {file!r} were not found in {looked}; they cannot be downloaded: {why}; "
            f"get {url} into the first folder, or set FISHERBENCH_DATA"
        )
    return mine


def _hash_prefix(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _verify(path: Path, url: str) -> None:
    """Refuse a file whose hash is not the one that its name carries."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}; get {url} again") from error
    published = _hash_prefix(path)
    if not found.startswith(published):
        raise UsageError(
            f"{path} is corrupt or half-downloaded: its SHA-256 begins with {found[: len(published)]}, by its name it "
            f"is {published}; get {url} again"
        )


def _download(url: str, path: Path) -> str:
    """Download a file, whole or not at all, and return why it failed; empty if it did not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_prefix(path), progress=False)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash
        return one_line(error)
    return ""


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise UsageError(f"{path} holds no weights of PyTorch: {one_line(error)[:MAX_REASON]}") from error
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise UsageError(f"{path} holds no weights of PyTorch: it is no table of tensors by name")
    return stored


def _modern(key: str) -> str:
    """Return a name as DenseNet has it today, ``norm1``, of the ``norm.1`` that its weights were published with."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)


def _lies_in(key: str, modules: Sequence[str]) -> bool:
    return any(key.startswith(f"{module}.") for module in modules)


def _check(path: Path, stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse weights of another network."""
    wrong = {f"lacks {key}" for key in wanted.keys() - stored.keys() if not key.endswith(".num_batches_tracked")}
    wrong |= {f"has {key}" for key in stored.keys() - wanted.keys()}
    for key in wanted.keys() & stored.keys():
        if stored[key].shape != wanted[key].shape:
            wrong.add(f"has {key} of shape {list(stored[key].shape)}, not {list(wanted[key].shape)}")
    if wrong:
        raise UsageError(
            f"{path} holds the weights of another network: it {', '.join(sorted(wrong)[:NUM_NAMED])}"
            + (f" and {len(wrong) - NUM_NAMED} more" if len(wrong) > NUM_NAMED else "")
        )
