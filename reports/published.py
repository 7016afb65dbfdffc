"""The published numbers of "AdaFisher: Adaptive Second Order Optimization via Fisher Information" (ICLR 2025).

The files of ``reports/paper`` in one long form, with the names of this project's workloads and arms.
``reports/paper/README.md`` says what is as printed and what is read into it.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any

import pandas as pd

TOP1, TOP5 = "top-1 accuracy (%)", "top-5 accuracy (%)"
PERPLEXITY = "test perplexity"
EPOCHS = "epochs in the budget"
MINUTES = "minutes of 200 epochs"
EPOCH_S = "seconds per epoch"
LR = "learning rate"

WALL_CLOCK, FIXED_EPOCHS = "wall_clock", "fixed_epochs"
CNN, VIT, GPT = "CNN", "ViT", "GPT"  # the kinds of networks for which the paper has hyperparameters

ARMS = {
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "AdaHessian": "adahessian",
    "K-FAC": "kfac",
    "Shampoo": "shampoo",
    "AdaFisher": "adafisher",
    "AdaFisherW": "adafisherw",
    "AdaFactor": "adafactor",
    "Eva": "eva",
}
NETWORKS = {  # as printed, dashes apart → as workloads name it, kind
    "ResNet18": ("resnet18", CNN),
    "ResNet50": ("resnet50", CNN),
    "ResNet101": ("resnet101", CNN),
    "DenseNet121": ("densenet121", CNN),
    "MobileNetV3": ("mobilenetv3", CNN),
    "Tiny Swin": ("swin_t", VIT),
    "Big Swin": ("swin_b", VIT),
    "FocalNet": ("focalnet", VIT),
    "CCT2/3x2": ("cct_2_3x2", VIT),
    "GPT1": ("gpt", GPT),
}
DATASETS = {
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "Tiny ImageNet": "tiny_imagenet",
    "ImageNet-1k": "imagenet",
    "WikiText-2": "wikitext2",
    "PTB": "ptb",
}
CIFAR, IMAGES = "CIFAR10, CIFAR100", "CIFAR10, CIFAR100, Tiny ImageNet"
TASKS = {  # of numbers that several workloads share → kinds of networks, data sets, network if it is one, pretrained
    "CIFAR10/100 and Tiny ImageNet": ((CNN, VIT), IMAGES, "", "no"),
    "CIFAR (section D.2.5)": ((CNN,), CIFAR, "", "no"),
    "ImageNet-1k": ((CNN,), "ImageNet-1k", "ResNet50", "no"),
    "transfer": ((CNN,), CIFAR, "", "yes"),
    "language": ((GPT,), "WikiText-2, PTB", "GPT-1", "no"),
    "CNN": ((CNN,), f"{IMAGES}, ImageNet-1k", "", "no"),
    "CNN (section D.2.5)": ((CNN,), CIFAR, "", "no"),
    "ViT": ((VIT,), IMAGES, "", "no"),
    "ViT (Tiny Swin, FocalNet)": ((VIT,), IMAGES, "", "no"),
    "ViT (CCT-2/3x2)": ((VIT,), CIFAR, "CCT-2/3x2", "no"),
}

TEXT = ("table", "quantity", "comparison", "dataset", "network", "kind", "cutout", "pretrained")
NAMES = ("optimizer", "arm", "workload", "statistic", "source")
NUMBERS = ("num_workers", "batch_size", "budget_epochs", "value", "std")
COLUMNS = (*TEXT, *NAMES, *NUMBERS)

Row = Mapping[str, Any]


def load() -> pd.DataFrame:
    """Return all published numbers.

    Returns:
        A row a number, with :data:`COLUMNS`. ``workload`` is empty where several workloads have the number, then
        ``dataset`` lists their data sets; ``arm`` is empty for optimizers that are none of ours. ``cutout`` and
        ``pretrained`` are ``yes``, ``no`` or ``unstated``. ``source`` is ``paper``, or the other paper that it quotes.
        ``budget_epochs`` are those that the time was measured out by, or that were trained. Text is empty and numbers
        are NaN where they do not apply, or the paper has none.
    """
    rows = [_complete(row) for name, read in _READERS.items() for record in _file(name) for row in read(record)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame[list(NUMBERS)] = frame[list(NUMBERS)].astype("float64")
    return frame


def network_of(printed: str) -> tuple[str, str]:
    """Return the name of a printed network in those of workloads, and its kind."""
    return NETWORKS[printed if printed in NETWORKS else printed.replace("-", "")]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame by name of column."""
    return [{str(key): value for key, value in record.items()} for record in frame.to_dict("records")]


def _file(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    with resources.as_file(resources.files("reports").joinpath("paper", f"{name}.csv")) as path:
        return records(pd.read_csv(path))


def _complete(row: Row) -> dict[str, Any]:
    """Return a row with what follows from the names in it, and what most rows share."""
    known = dict.fromkeys((*TEXT, *NAMES), "")
    known |= {"cutout": "unstated", "pretrained": "no", "statistic": "unstated", "source": "paper"}
    if row.get("network"):
        known["kind"] = network_of(row["network"])[1]
    return known | dict(row) | {"arm": ARMS.get(row["optimizer"], "")}


def _workload(dataset: str, network: str, suffix: str = "") -> str:
    """Return the name of a workload of the paper."""
    return f"{DATASETS[dataset]}_{network_of(network)[0]}{suffix}"


def _accuracy(record: Row) -> Iterator[Row]:
    """Yield a number of Tables 2, 13a and 4."""
    is_cut, is_pretrained = record["cutout"] == "cutout", record["comparison"] == "wall_clock_pretrained"
    yield {
        "table": record["table"].replace("table", "Table "),
        "quantity": TOP1,
        "comparison": WALL_CLOCK,
        **{name: record[name] for name in ("dataset", "network", "optimizer", "statistic")},
        "cutout": "yes" if is_cut else "no",
        "pretrained": "yes" if is_pretrained else "no",
        "workload": _workload(
            record["dataset"], record["network"], "_cutout" if is_cut else "_pretrained" if is_pretrained else ""
        ),
        "batch_size": 256,
        "budget_epochs": 50 if is_pretrained else 200,
        "value": record["top1_mean"],
        "std": record["top1_std"],
    }


def _extended(record: Row) -> Iterator[Row]:
    """Yield a number of Table 14, whose rows are those of Table 2 where it has them: with Cutout."""
    yield {
        "table": "Table 14",
        "quantity": TOP1,
        "comparison": WALL_CLOCK,
        **{name: record[name] for name in ("dataset", "network", "optimizer", "statistic")},
        "cutout": "yes",
        "workload": _workload(record["dataset"], record["network"], "_cutout"),
        "batch_size": 256,
        "budget_epochs": 200,
        "value": record["top1"],
    }


def _fixed_epochs(record: Row) -> Iterator[Row]:
    """Yield the accuracy and the time of a row of Table 15, which does not say whether it is with Cutout."""
    shared = {
        "table": "Table 15",
        "comparison": FIXED_EPOCHS,
        "dataset": "CIFAR100",
        "network": record["network"],
        "optimizer": record["optimizer"],
        "workload": _workload("CIFAR100", record["network"]),
        "batch_size": 256,
        "budget_epochs": 200,
    }
    yield shared | {"quantity": TOP1, "value": record["top1"], "statistic": record["statistic"]}
    yield shared | {"quantity": MINUTES, "value": record["training_minutes_200_epochs"]}


def _imagenet(record: Row) -> Iterator[Row]:
    """Yield the accuracies of a row of Table 3."""
    for quantity, column in ((TOP1, "top1"), (TOP5, "top5")):
        yield {
            "table": "Table 3",
            "quantity": quantity,
            "comparison": WALL_CLOCK,
            "dataset": "ImageNet-1k",
            "network": "ResNet50",
            "cutout": "no",
            **{name: record[name] for name in ("optimizer", "statistic", "source", "batch_size")},
            "workload": _workload("ImageNet-1k", "ResNet50"),
            "budget_epochs": 90,
            "value": record[column],
        }


def _tiny_imagenet(record: Row) -> Iterator[Row]:
    """Yield a number of Table 12."""
    yield {
        "table": "Table 12",
        "quantity": TOP1,
        "comparison": WALL_CLOCK,
        "dataset": "Tiny ImageNet",
        "cutout": "no",
        **{name: record[name] for name in ("network", "optimizer", "statistic")},
        "workload": _workload("Tiny ImageNet", record["network"]),
        "batch_size": 256,
        "budget_epochs": 200,
        "value": record["top1"],
    }


def _language(record: Row) -> Iterator[Row]:
    """Yield a number of Table 5."""
    yield {
        "table": "Table 5",
        "quantity": PERPLEXITY,
        "comparison": WALL_CLOCK,
        "network": "GPT-1",
        **{name: record[name] for name in ("dataset", "optimizer", "statistic")},
        "workload": _workload(record["dataset"], "GPT-1"),
        "batch_size": 32,
        "budget_epochs": 50,
        "value": record["test_perplexity"],
    }


def _epochs(record: Row) -> Iterator[Row]:
    """Yield a number of Table 8, once a kind of networks."""
    table = "Section D.2.5" if "D.2.5" in record["task"] else "Table 8"
    for row in _of_task(record, table):
        yield row | {"quantity": EPOCHS, "comparison": WALL_CLOCK, "value": record["epochs"]}


def _learning_rates(record: Row) -> Iterator[Row]:
    """Yield a number of Tables 9, 10 and 17."""
    table = "Section D.2.5" if "D.2.5" in record["task"] else "Tables 9, 10, 17"
    for row in _of_task(record, table):
        yield row | {"quantity": LR, "value": record["learning_rate"]}


def _of_task(record: Row, table: str) -> Iterator[dict[str, Any]]:
    """Yield what a number says for each kind of networks; ``Adam/AdamW`` is AdamW of transformers alone."""
    kinds, dataset, network, pretrained = TASKS[record["task"]]
    for kind in kinds:
        optimizer, _, decoupled = record["optimizer"].partition("/")
        yield {
            "table": table,
            "optimizer": decoupled if decoupled and kind != CNN else optimizer,
            **{"kind": kind, "dataset": dataset, "network": network, "pretrained": pretrained},
        }


def _scaling(record: Row) -> Iterator[Row]:
    """Yield a number of Table 6."""
    yield {
        "table": "Table 6",
        "quantity": EPOCH_S,
        "dataset": "ImageNet-1k",
        "network": "ResNet50",
        "cutout": "no",
        "optimizer": "AdaFisher",
        "workload": _workload("ImageNet-1k", "ResNet50"),
        "num_workers": record["gpus"],
        "batch_size": record["batch_size"],
        "value": record["adafisher_seconds_per_epoch"],
    }


_READERS: dict[str, Callable[[Row], Iterator[Row]]] = {
    "accuracy": _accuracy,
    "wall_clock_extended": _extended,
    "fixed_epochs_cifar100": _fixed_epochs,
    "imagenet": _imagenet,
    "tiny_imagenet": _tiny_imagenet,
    "language": _language,
    "epochs_in_budget": _epochs,
    "learning_rates": _learning_rates,
    "scaling": _scaling,
}
