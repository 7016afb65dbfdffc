"""Predicted memory: by hand, against the ledger, and of what no machine here could hold."""

import ast
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from optimizers import REGISTRY
from suite.diagnostics import ledger, prediction
from suite.workloads import find
from tests.suite.diagnostics.test_ledger import assemble

Loss = Callable[[Tensor, Tensor], Tensor]
TOLERANCE = 0.1  # of the ledger's peak
NETWORKS = ("mnist_cnn", "fashion_mnist_resnet8", "fashion_mnist_vit", "pydoc_gpt")
pytestmark = pytest.mark.filterwarnings("ignore:these parameters take the identity factor", "ignore:Using backward")
KINDS = ("parameters", "gradients", "optimizer_state", "factors", "activations", "temporaries")


@cache
def predict_digits(name: str, num_samples: int = 32, device: Literal["cpu", "cuda"] = "cpu") -> prediction.Prediction:
    spec = REGISTRY[name]
    return prediction.predict(
        find("digits").build_model,
        lambda model: spec.build(model, spec.configure()),
        cross_entropy,
        torch.empty(num_samples, 1, 8, 8, device="meta"),
        torch.empty(num_samples, dtype=torch.int64, device="meta"),
        needs_graph=spec.needs_graph,
        device=device,
    )


def sum_of_sigmoids(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs.sigmoid().sum()


def predict_linear(
    num_samples: int, size: int, loss: Loss = sum_of_sigmoids, device: Literal["cpu", "cuda"] = "cpu", **options: float
) -> prediction.Prediction:
    return prediction.predict(
        lambda: nn.Linear(size, size, bias=False),
        lambda model: SGD(model.parameters(), lr=0.1, **options),
        loss,
        torch.empty(num_samples, size, device="meta"),
        torch.empty(0, device="meta"),
        device=device,
    )


def imports(path: str | None) -> set[str]:
    assert path is not None
    nodes = list(ast.walk(ast.parse(Path(path).read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        f"{'.' * node.level}{node.module or ''}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_ledger_and_prediction_share_no_code() -> None:
    for module in (ledger, prediction):
        own = {name for name in imports(module.__file__) if name.startswith((".", "suite", "optimizers"))}
        assert own == {"optimizers.Refreshing", "optimizers.level_shares"}  # which steps there are
    assert not {"profile", "_EventType"} & vars(prediction).keys()
    assert not {"FakeTensorMode", "TorchDispatchMode"} & vars(ledger).keys()


def test_peak_in_the_optimizer_by_hand() -> None:
    found = predict_linear(1, 100, momentum=0.9, weight_decay=0.1)
    matrix = 4 * 100 * 100
    assert [getattr(found, kind) for kind in KINDS] == [matrix, matrix, matrix, 0, 4 * 100 + 4, matrix]
    assert found.peak == 4 * matrix + 404


def test_peak_in_the_backward_by_hand() -> None:
    found = predict_linear(1000, 10, momentum=0.9)
    rows, matrix = 4 * 1000 * 10, 4 * 10 * 10
    sums = [found.parameters, found.gradients, found.optimizer_state, found.factors, found.activations]
    assert sums[:4] == [matrix, 0, matrix, 0]
    assert sums[4] in {2 * rows + 4, 2 * rows + 8}  # with the gradient of the loss, which backward makes, or without
    assert found.peak == 2 * matrix + 3 * rows + 8


def test_a_loss_that_keeps_a_tensor_raises_it() -> None:
    kept: list[Tensor] = []

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        kept.append(torch.empty(1024))
        return outputs.sigmoid().sum()

    more = predict_linear(1000, 10, loss=loss).peak - predict_linear(1000, 10).peak
    assert more == len(kept) * 4096 == 2 * 4096


@pytest.mark.parametrize("num_samples", [16, 64])
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_within_tolerance_of_the_ledger(name: str, num_samples: int) -> None:
    model, optimizer, step, batch = assemble(name, num_samples)
    measured = ledger.measure(model, optimizer, step, batch=batch)
    predicted = predict_digits(name, num_samples)
    assert predicted.peak == pytest.approx(measured.peak, rel=TOLERANCE)
    assert predicted.by_level.keys() == measured.by_level.keys()
    for level, of_level in measured.by_level.items():
        assert predicted.by_level[level].peak == pytest.approx(of_level.peak, rel=TOLERANCE)


@pytest.mark.parametrize("num_samples", [4, 16])
@pytest.mark.parametrize("workload", NETWORKS)
def test_within_tolerance_on_other_networks(workload: str, num_samples: int) -> None:
    found, spec = find(workload), REGISTRY["adafisher"]
    inputs, targets = found.make_example(num_samples)
    build = partial(spec.build, config=spec.configure(layers="all"))
    model = found.build_model()
    optimizer = build(model)

    def step() -> None:
        optimizer.zero_grad()
        found.loss(model(inputs), targets).backward()
        optimizer.step()

    measured = ledger.measure(model, optimizer, step, batch=[inputs, targets])
    predicted = prediction.predict(found.build_model, build, found.loss, inputs, targets)
    assert predicted.peak == pytest.approx(measured.peak, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["kfac", "shampoo", "adahessian"])
def test_each_category_is_the_ledgers(name: str) -> None:
    model, optimizer, step, batch = assemble(name, 16)
    measured = ledger.measure(model, optimizer, step, batch=batch)
    predicted = predict_digits(name, 16)
    for kind in KINDS:
        assert getattr(predicted, kind) == pytest.approx(getattr(measured, kind), abs=0.02 * measured.peak), kind


def test_nothing_is_allocated() -> None:
    size = 1_000_000  # a matrix of 4 TB
    found = predict_linear(8, size, momentum=0.9)
    assert found.parameters == found.optimizer_state == 4 * size**2
    assert found.peak >= 3 * found.parameters


def test_the_global_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    predict_digits("adahessian", 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_that_hang_on_values_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"memory cannot be predicted: aten.nonzero\S* needs the values of tensors"):
        predict_linear(8, 4, loss=lambda outputs, _: outputs[outputs > 0].sum())


def test_code_that_draws_until_values_suit_it_comes_to_an_end() -> None:
    def build() -> nn.Module:
        model = nn.Linear(8, 4)
        nn.init.trunc_normal_(model.weight)
        return model

    batch = torch.empty(2, 8, device="meta"), torch.empty(2, device="meta")
    found = prediction.predict(build, lambda model: SGD(model.parameters()), sum_of_sigmoids, *batch)
    assert found.parameters == 4 * 36


def test_a_value_that_is_read_is_one_or_true() -> None:
    seen: list[float | bool] = []

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        seen.extend([outputs.sum().item(), bool((outputs > 0).all()), int(outputs.argmax())])
        return outputs.sum()

    predict_linear(2, 4, loss=loss)
    assert seen == 2 * [1.0, True, 1]


def test_on_cuda_blocks_are_of_512_bytes_and_torch_takes_all_parameters_at_once() -> None:
    tiny = predict_linear(1, 2, device="cuda")
    assert tiny.parameters == 512
    assert tiny.peak % 512 == 0
    sizes = [4 * param.numel() for param in find("digits").build_model().parameters()]
    assert predict_digits("adam", 2, device="cuda").temporaries >= sum(sizes)  # a root of each second moment at once
    seen: list[bool] = []
    predict_linear(1, 2, device="cuda", loss=lambda outputs, _: seen.append(outputs.is_cuda) or outputs.sum())
    assert seen == [True, True]


@pytest.mark.parametrize(("multiple_of", "largest"), [(1, 128), (10, 120), (128, 128), (129, 0)])
def test_the_largest_batch_of_a_line(multiple_of: int, largest: int) -> None:
    asked: list[int] = []

    def line(num_samples: int) -> int:
        asked.append(num_samples)
        return 100 + 7 * num_samples

    assert prediction.largest_batch(line, 1000, multiple_of=multiple_of) == largest  # 996 bytes
    assert len(asked) <= 2 * 8  # doublings up to 256, and as many halves
    assert prediction.largest_batch(line, 996) == 128
    assert prediction.largest_batch(line, 995) == 127


def test_no_largest_batch() -> None:
    assert prediction.largest_batch(lambda _: 2, 1) == 0
    with pytest.raises(ValueError, match="bytes must grow with the batch"):
        prediction.largest_batch(lambda _: 1, 1)


def test_the_largest_batch_of_a_network() -> None:
    capacity = 2_000_000
    largest = prediction.largest_batch(lambda num_samples: predict_digits("sgd", num_samples).peak, capacity)
    measured = []
    for num_samples in (largest, largest + 1):
        model, optimizer, step, batch = assemble("sgd", num_samples)
        measured.append(ledger.measure(model, optimizer, step, batch=batch).peak)
    assert measured[0] <= (1 + TOLERANCE) * capacity
    assert measured[1] > (1 - TOLERANCE) * capacity


def test_metrics_have_the_names_of_the_table() -> None:
    found = prediction.Prediction(parameters=1, gradients=2, optimizer_state=3, factors=4, activations=5, temporaries=6)
    assert found.as_metrics() == {
        **{f"predicted_memory/{kind}_bytes": float(number) for number, kind in enumerate(KINDS, start=1)},
        "predicted_memory/peak_bytes": 21.0,
    }
