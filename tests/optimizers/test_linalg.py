"""Inverse roots of hard matrices, and what happens where LAPACK fails."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from optimizers import Shampoo
from optimizers.linalg import add_outer_products, inverse_root, renewed_inverse_root

DAMPING = 1e-5


def spectrum(*eigenvalues: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a matrix of these eigenvalues, in a batch of one."""
    generator = torch.Generator().manual_seed(0)
    vectors, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator).double())
    return ((vectors * torch.tensor(eigenvalues).double()) @ vectors.T).to(dtype).unsqueeze(0)


def exact(matrix: Tensor, p: int, damping: float) -> np.ndarray:
    m = matrix[0].double().numpy()
    return scipy.linalg.fractional_matrix_power(m + damping * np.linalg.norm(m, 2) * np.eye(len(m)), -1 / p)


HARD = {
    "well-conditioned": spectrum(1.0, 2.0, 3.0),
    "condition-1e12": spectrum(1e-6, 1.0, 10.0, 1e6),
    "rank-deficient": spectrum(0.0, 0.0, 0.0, 2.0, 5.0),
    "rank-one": spectrum(*[0.0] * 7, 1e-8),
    "slightly-indefinite": spectrum(-1e-16, 1.0, 2.0),
    "small": spectrum(1e-20, 2e-20, 3e-20),
    "large": spectrum(1e20, 2e20, 3e20),
    "one-by-one": spectrum(4.0),
}


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("matrix", HARD.values(), ids=HARD)
def test_inverse_root(matrix, p):
    expected = exact(matrix, p, DAMPING)
    root = inverse_root(matrix, p, damping=DAMPING)[0]
    np.testing.assert_allclose(root, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert torch.equal(root, root.mT) or torch.allclose(root, root.mT, rtol=1e-12)


@pytest.mark.parametrize("matrix", HARD.values(), ids=HARD)
def test_inverse_root_in_float32(matrix):
    """The damping, 1e-5 of the largest eigenvalue, is far above what float32 gets wrong of the small ones."""
    expected = exact(matrix, 4, DAMPING)
    root = inverse_root(matrix.float(), 4, damping=DAMPING)[0]
    np.testing.assert_allclose(root, expected, rtol=0, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 5, 127, 128, 200, 257, 300, 511])
def test_outer_products_fill_the_lower_triangle(size):
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(2, size, 9, generator=generator, dtype=torch.float64)
    for each in (factors, factors.mT.contiguous().mT):
        matrices = torch.ones(2, size, size, dtype=torch.float64)
        add_outer_products(matrices, each, decay=0.5, share=2.0)
        torch.testing.assert_close(matrices.tril(), (0.5 + 2 * factors @ factors.mT).tril())


def test_only_the_lower_triangle_is_read():
    matrix = HARD["condition-1e12"]
    assert torch.equal(inverse_root(matrix.tril(), 4, damping=DAMPING), inverse_root(matrix, 4, damping=DAMPING))


def batch_of_two() -> tuple[Tensor, Tensor]:
    """Return last roots and matrices, of float32."""
    matrices = torch.cat([spectrum(1.0, 2.0, 3.0), spectrum(4.0, 5.0, 6.0)]).float()
    return torch.eye(3).expand(2, 3, 3) * 7, matrices


def test_a_matrix_of_zeros_keeps_its_last_root_and_is_no_failure():
    last, matrices = batch_of_two()
    matrices[1] = 0
    roots, *counts = renewed_inverse_root(last, matrices, 4, damping=DAMPING)
    assert torch.equal(roots[1], last[1])
    torch.testing.assert_close(roots[:1], inverse_root(matrices[:1], 4, damping=DAMPING))
    assert counts == [0, 0]


def test_a_matrix_that_is_not_finite_keeps_its_last_root():
    last, matrices = batch_of_two()
    matrices[0, 1, 0] = torch.nan
    roots, *counts = renewed_inverse_root(last, matrices, 4, damping=DAMPING)
    assert torch.equal(roots[0], last[0])
    torch.testing.assert_close(roots[1:], inverse_root(matrices[1:], 4, damping=DAMPING))
    assert counts == [1, 1]


def break_eigh(monkeypatch: pytest.MonkeyPatch, dtypes: set[torch.dtype], *, how: str, of: float = 0.0) -> None:
    """Make eigh fail in these dtypes, wherever the first entry of a matrix is at least ``of``."""
    eigh = torch.linalg.eigh

    def broken(matrices: Tensor) -> tuple[Tensor, Tensor]:
        is_hit = (matrices[:, 0, 0] >= of) & (matrices.dtype in dtypes)
        if how == "raises" and is_hit.any():
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        values, vectors = eigh(matrices)
        return torch.where(is_hit[:, None], torch.nan, values), vectors

    monkeypatch.setattr(torch.linalg, "eigh", broken)


every_way = pytest.mark.parametrize("how", ["raises", "gives NaN"])


@every_way
def test_one_failure_in_float32_is_tried_in_float64_alone(monkeypatch, how):
    last, matrices = batch_of_two()
    matrices[1] *= 100
    expected = inverse_root(matrices, 4, damping=DAMPING)
    break_eigh(monkeypatch, {torch.float32}, how=how, of=100.0)
    roots, *counts = renewed_inverse_root(last, matrices, 4, damping=DAMPING)
    assert roots.dtype == torch.float32
    torch.testing.assert_close(roots, expected)
    assert counts == [1, 0]


@every_way
def test_one_failure_in_float64_too_keeps_the_last_root(monkeypatch, how):
    last, matrices = batch_of_two()
    matrices[1] *= 100
    expected = inverse_root(matrices, 4, damping=DAMPING)
    break_eigh(monkeypatch, {torch.float32, torch.float64}, how=how, of=100.0)
    roots, *counts = renewed_inverse_root(last, matrices, 4, damping=DAMPING)
    torch.testing.assert_close(roots[0], expected[0])
    assert torch.equal(roots[1], last[1])
    assert counts == [1, 1]


def trained(num_steps: int) -> tuple[nn.Module, Shampoo]:
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    optimizer = Shampoo(model, update_interval=2)
    for _ in range(num_steps):
        train(model, optimizer)
    return model, optimizer


def train(model: nn.Module, optimizer: Shampoo) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 5)).square().mean().backward()
    optimizer.step()


@every_way
def test_shampoo_takes_roots_in_float64_and_counts_them(monkeypatch, how):
    expected, _ = trained(5)
    break_eigh(monkeypatch, {torch.float32}, how=how)
    model, optimizer = trained(5)
    assert optimizer.fallbacks() == {"retried_roots": 6, "kept_roots": 0}  # left and right, at steps 0, 2 and 4
    torch.testing.assert_close(model.weight, expected.weight, rtol=0, atol=1e-3)  # of roots in float32


@every_way
def test_shampoo_goes_on_with_its_last_roots_and_counts_them(monkeypatch, how):
    model, optimizer = trained(1)
    state = optimizer.state[model.weight]
    roots = {name: state[name].clone() for name in ("left_root", "right_root")}
    assert optimizer.fallbacks() == {"retried_roots": 0, "kept_roots": 0}
    break_eigh(monkeypatch, {torch.float32, torch.float64}, how=how)
    before = model.weight.detach().clone()
    for _ in range(4):
        train(model, optimizer)
    assert all(torch.equal(state[name], root) for name, root in roots.items())
    assert model.weight.isfinite().all()
    assert not torch.equal(model.weight, before)
    assert optimizer.fallbacks() == {"retried_roots": 4, "kept_roots": 4}
    twin = Shampoo(model, update_interval=2)
    twin.load_state_dict(optimizer.state_dict())
    assert twin.fallbacks() == optimizer.fallbacks()


@every_way
def test_shampoo_without_a_first_root_is_sgd(monkeypatch, how):
    break_eigh(monkeypatch, {torch.float32, torch.float64}, how=how)
    model, _ = trained(4)
    torch.manual_seed(0)
    twin = nn.Linear(5, 3)
    reference = torch.optim.SGD([twin.weight], lr=0.1, momentum=0.9)
    other = Shampoo(twin, params=[twin.bias], lr=0.1)
    for _ in range(4):
        twin.zero_grad()
        twin(torch.randn(8, 5)).square().mean().backward()
        reference.step()
        other.step()
    torch.testing.assert_close(model.weight, twin.weight)
