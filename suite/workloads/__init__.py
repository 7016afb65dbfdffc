"""The workloads: an explicit table, a file a data set or a task."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from suite.errors import UsageError, known
from suite.workloads import cifar, digits, digits_variants, fashion_mnist, imagenet, iris, mnist, text
from suite.workloads.base import Data, Split, TensorSplit, WorkloadSpec
from suite.workloads.files import one_line

REGISTRY: dict[str, WorkloadSpec] = {
    spec.name: spec
    for spec in (
        digits.SPEC,
        *digits_variants.SPECS,
        iris.SPEC,
        *fashion_mnist.SPECS,
        *text.SPECS,
        mnist.SPEC,
        *cifar.SPECS,
        *imagenet.SPECS,
    )
}

SMALL = ("digits", "iris", "fashion_mnist_resnet8", "fashion_mnist_vit", "pydoc_gpt")  # a CPU trains them in minutes

__all__ = [
    "REGISTRY",
    "SMALL",
    "Data",
    "Split",
    "TensorSplit",
    "WorkloadSpec",
    "check_model",
    "data_version",
    "find",
    "load",
]


def find(name: str) -> WorkloadSpec:
    """Return a workload by its name.

    Args:
        name: A registered name, or ``package.module:SPEC`` of one's own.

    Returns:
        The workload.

    Raises:
        UsageError: If there is none of this name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise UsageError(f"{known('workload', name, REGISTRY)}, or package.module:SPEC")
    try:
        spec = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UsageError(f"the workload {name!r} cannot be imported: {error}") from error
    if not isinstance(spec, WorkloadSpec):
        raise UsageError(f"{name!r} is a {type(spec).__name__}, not a WorkloadSpec")
    return spec


def data_version(name: str) -> str | None:
    """Return what tells a workload's data from others of the same name.

    Args:
        name: As for :func:`find`.

    Returns:
        Its version on this machine; ``None`` where the name says it all.

    Raises:
        UsageError: If there is no such workload, or its data are not there.
    """  # noqa: DOC502
    version = find(name).data_version
    with _told_in_one_line(name, "tell the version of its data"):
        return version() if version else None


def load(name: str) -> Data:
    """Return a workload's data.

    Args:
        name: As for :func:`find`.

    Returns:
        Its three splits.

    Raises:
        UsageError: If there is no such workload, or its data cannot be loaded.
    """
    with _told_in_one_line(name, "load its data"):
        data = find(name).load()
        if not isinstance(data, Data):
            raise UsageError(f"load() of the workload {name!r} returned a {type(data).__name__}, not Data")
        return data


def check_model(name: str) -> None:
    """Refuse a workload whose model cannot be built, as where pretrained weights are missing.

    Args:
        name: As for :func:`find`.

    Raises:
        UsageError: If there is no such workload, or its model cannot be built.
    """
    with _told_in_one_line(name, "build its model"):
        model = find(name).build_model()
        if not isinstance(model, nn.Module):
            raise UsageError(f"build_model() of the workload {name!r} returned a {type(model).__name__}, not a Module")


@contextmanager
def _told_in_one_line(name: str, what: str) -> Iterator[None]:
    """Raise as ``UsageError`` whatever a workload raises: it may be a user's own, or its files anything at all."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UsageError(f"the workload {name!r} cannot {what}: {reason}") from error
