"""The published numbers, exactly as printed, and what follows from them."""

import math

import pytest

from reports import published
from reports.comparable import (
    EFFICIENCY,
    EPOCHS_RATIO,
    GAIN,
    TIME_RATIO,
    covers,
    dataset_of,
    kind_of,
    published_as,
    relative,
)
from reports.published import EPOCH_S, EPOCHS, LR, MINUTES, PERPLEXITY, TOP1, TOP5, load, records
from suite.workloads import REGISTRY


def rows(frame, **wanted):
    return [row for row in records(frame) if all(row[name] == value for name, value in wanted.items())]


def the(frame, **wanted):
    [row] = rows(frame, **wanted)
    return row


@pytest.mark.parametrize(
    ("wanted", "value", "std"),
    [
        ({"table": "Table 2", "workload": "cifar10_resnet18_cutout", "arm": "adafisher"}, 96.25, 0.2),
        ({"table": "Table 2", "workload": "cifar10_swin_t_cutout", "arm": "adamw"}, 87.37, 0.6),
        ({"table": "Table 13a", "workload": "cifar100_resnet50", "arm": "sgd"}, 77.50, 0.2),
        ({"table": "Table 4", "workload": "cifar100_mobilenetv3_pretrained", "arm": "adafisher"}, 72.38, 0.4),
        ({"table": "Table 14", "workload": "cifar100_resnet18_cutout", "arm": "eva"}, 76.69, None),
        ({"table": "Table 15", "workload": "cifar100_resnet18", "arm": "kfac", "quantity": TOP1}, 76.96, None),
        ({"table": "Table 15", "workload": "cifar100_resnet18", "arm": "kfac", "quantity": MINUTES}, 46.46, None),
        ({"table": "Table 3", "arm": "adafisher", "batch_size": 512.0, "quantity": TOP1}, 77.01, None),
        ({"table": "Table 3", "arm": "shampoo", "quantity": TOP5}, 91.42, None),
        ({"table": "Table 12", "workload": "tiny_imagenet_swin_b", "arm": "kfac"}, 8.89, None),
        ({"quantity": PERPLEXITY, "workload": "ptb_gpt", "arm": "adafisherw"}, 41.15, None),
        ({"quantity": EPOCHS, "table": "Table 8", "arm": "adamw", "kind": "ViT"}, 210.0, None),
        ({"quantity": EPOCHS, "table": "Table 8", "arm": "adam", "pretrained": "yes"}, 55.0, None),
        ({"quantity": EPOCHS, "table": "Section D.2.5", "arm": "eva"}, 119.0, None),
        ({"quantity": LR, "arm": "adafisher", "pretrained": "no"}, 0.001, None),
        ({"quantity": EPOCH_S, "num_workers": 4.0}, 720.0, None),
    ],
)
def test_numbers_are_the_printed_ones(wanted, value, std):
    row = the(load(), **wanted)
    assert row["value"] == value
    assert row["std"] == std or (std is None and row["std"] != row["std"])


def test_every_number_of_the_files_is_there():
    frame = load()
    counts = frame.groupby("table").size().to_dict()
    assert counts == {
        **{"Table 2": 96, "Table 13a": 96, "Table 4": 48, "Table 14": 16, "Table 15": 48, "Table 3": 22},
        **{"Table 12": 10, "Table 5": 8, "Table 6": 4, "Tables 9, 10, 17": 23},
        "Table 8": 26,  # 20 rows, of which the first six are of two kinds of networks
        "Section D.2.5": 3,
    }
    assert list(frame.columns) == list(published.COLUMNS)
    assert math.isnan(the(frame, quantity=PERPLEXITY, workload="ptb_gpt", arm="shampoo")["value"])


def test_what_the_tables_leave_unsaid_is_said_to_be_so():
    frame = load()
    assert {row["statistic"] for row in rows(frame, table="Table 2")} == {"unstated"}
    assert {row["statistic"] for row in rows(frame, table="Table 14")} == {"best_test"}
    assert {row["cutout"] for row in rows(frame, table="Table 15")} == {"unstated"}
    quoted = {row["source"] for row in rows(frame, table="Table 3")} - {"paper"}
    assert "Goyal et al. 2017" in quoted and not set(relative(frame)["source"]) & quoted


def test_workloads_are_ours_and_all_that_reproduce_a_table_are_named():
    named = set(load()["workload"]) - {""}
    assert named <= set(REGISTRY)
    assert named == {name for name in REGISTRY if dataset_of(name)}
    assert all(kind_of(name) for name in named)


@pytest.mark.parametrize(
    ("workload", "kind", "dataset"),
    [
        ("digits", "CNN", ""),
        ("digits_mlp", "", ""),
        ("iris", "", ""),
        ("fashion_mnist_vit", "ViT", ""),
        ("pydoc_gpt", "GPT", ""),
        ("cifar100_cct_2_3x2_cutout", "ViT", "CIFAR100"),
        ("tiny_imagenet_resnet50", "CNN", "Tiny ImageNet"),
        ("imagenet_resnet50", "CNN", "ImageNet-1k"),
        ("package.module:SPEC", "", ""),
    ],
)
def test_kinds_and_data_sets(workload, kind, dataset):
    assert (kind_of(workload), dataset_of(workload)) == (kind, dataset)


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ({"quantity": GAIN, "table": "Table 2", "workload": "cifar10_resnet18_cutout", "arm": "sgd"}, 95.64 - 94.85),
        ({"quantity": GAIN, "workload": "cifar10_swin_t_cutout", "arm": "adafisherw"}, 88.74 - 87.37),
        ({"quantity": EPOCHS_RATIO, "kind": "CNN", "pretrained": "yes", "arm": "shampoo"}, 18 / 50),
        ({"quantity": EPOCHS_RATIO, "network": "ResNet50", "arm": "kfac"}, 60 / 90),
        ({"quantity": EPOCHS_RATIO, "arm": "adafactor"}, 216 / 200),
        ({"quantity": TIME_RATIO, "workload": "cifar100_resnet50", "arm": "shampoo"}, 583.11 / 70.13),
        ({"quantity": EFFICIENCY, "num_workers": 2.0}, 2882 / (2 * 1438)),
    ],
)
def test_relative_figures(wanted, value):
    assert the(relative(load()), **wanted)["value"] == pytest.approx(value)


def test_nothing_is_relative_to_itself():
    frame = relative(load())
    assert not (frame["arm"] == frame["relative_to"]).any()
    assert not rows(frame, quantity=EFFICIENCY, num_workers=1.0)
    assert set(frame["relative_to"]) == {"adam", "adamw", "adafisher", "adafisherw", "sgd", "1 worker"}


def test_which_workloads_a_number_concerns():
    epochs = {
        name: the(load(), quantity=EPOCHS, arm="kfac", kind=name, pretrained="no", network="")
        for name in ("CNN", "ViT")
    }
    assert covers(epochs["CNN"], "cifar10_resnet18_cutout") and covers(epochs["CNN"], "tiny_imagenet_resnet50")
    assert not covers(epochs["CNN"], "cifar10_resnet50_pretrained") and not covers(epochs["CNN"], "imagenet_resnet50")
    assert not covers(epochs["CNN"], "cifar10_swin_t") and covers(epochs["ViT"], "cifar10_swin_t")
    assert not covers(epochs["CNN"], "digits")
    cct = the(load(), quantity=LR, arm="adamw", network="CCT-2/3x2")
    assert covers(cct, "cifar100_cct_2_3x2") and not covers(cct, "cifar100_swin_t")
    exact = the(load(), table="Table 2", workload="cifar10_resnet18_cutout", arm="sgd")
    assert covers(exact, "cifar10_resnet18_cutout") and not covers(exact, "cifar10_resnet18")


@pytest.mark.parametrize(
    ("arm", "name"),
    [("adafisher_released", "adafisher"), ("adafisher-released", "adafisher"), ("adam (default)", "adam (default)")],
)
def test_both_numerics_of_adafisher_stand_beside_the_published_one(arm, name):
    assert published_as(arm) == name
