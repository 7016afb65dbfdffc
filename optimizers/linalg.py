"""Functions of symmetric matrices: damped inverses and inverse roots."""

import torch
from torch import Tensor

PANEL_ROWS = 128  # as a product's share of the peak falls with its size


def damped_inverse(matrices: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverses of symmetric matrices with a damping added to the diagonal, without host synchronisation.

    Args:
        matrices: Shape ``[G, n, n]``.
        damping: Shape ``[G]``.

    Returns:
        The inverses, by Cholesky factors, shape ``[G, n, n]``; and whether all are good, shape ``[]``: finite, of
        matrices that are positive definite as far as this dtype can tell.
    """
    damped = matrices.clone()
    damped.diagonal(dim1=-2, dim2=-1).add_(damping.unsqueeze(-1))
    factors, info = torch.linalg.cholesky_ex(damped)
    has_failed = (info > 0).view(-1, 1, 1)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    inverses = torch.cholesky_inverse(torch.where(has_failed, identity, factors))  # which raises where it fails
    return inverses, ~has_failed.any() & inverses.isfinite().all()


def add_outer_products(matrices: Tensor, factors: Tensor, *, decay: float, share: float) -> None:
    r"""Replace the lower triangles of symmetric matrices M by :math:`\beta M + \alpha F F^T`, in place.

    The rows are taken in panels, each up to its diagonal: three quarters of the multiplications at 256 rows, and in
    measured time 0.88 of one product of all. What lies above the diagonal is partly computed, and of no use.

    Args:
        matrices: M, shape ``[K, n, n]``.
        factors: F, shape ``[K, n, m]``.
        decay: β.
        share: α.
    """
    num_rows = matrices.shape[1]
    panel = -(-num_rows // max(1, round(num_rows / PANEL_ROWS)))
    for start in range(0, num_rows, max(1, panel)):
        end = start + panel
        above = factors[:, :end].mT
        matrices[:, start:end, :end].baddbmm_(factors[:, start:end], above, beta=decay, alpha=share)


def inverse_root(matrices: Tensor, p: int, *, damping: float) -> Tensor:
    r"""Return :math:`(M + \lambda_{\max} \delta I)^{-1/p}` of symmetric positive semi-definite matrices.

    The damping δ is relative to the largest eigenvalue, as in Anil et al. (2020), "Scalable Second Order Optimization
    for Deep Learning". Eigenvalues that round-off has made negative count as zero.

    Args:
        matrices: Shape ``[K, n, n]``, float32 or float64; only the lower triangles are read.
        p: >= 1.
        damping: δ, > 0.

    Returns:
        Shape ``[K, n, n]``; not finite for a matrix of zeros, and where the eigenvalues were not found.
    """
    values, vectors = _eigh(matrices)
    values = values.clamp(min=0)
    values = values + damping * values[..., -1:]
    return (vectors * values.pow(-1 / p).unsqueeze(-2)) @ vectors.mT


def renewed_inverse_root(last: Tensor, matrices: Tensor, p: int, *, damping: float) -> tuple[Tensor, int, int]:
    """Return inverse roots as :func:`inverse_root`, each last one kept where there is no new one.

    A matrix whose root fails is tried once more in float64. To know which do is to wait for the device, as eigh itself
    does on CUDA.

    Args:
        last: The roots before, shape ``[K, n, n]``.
        matrices: Shape ``[K, n, n]``; one of zeros keeps its last root and counts as no failure.
        p: >= 1.
        damping: See :func:`inverse_root`.

    Returns:
        The roots, shape ``[K, n, n]``; how many were tried again in float64; how many of these failed there too and
        kept their last root.
    """
    roots = inverse_root(matrices, p, damping=damping)
    is_good = _are_finite(roots)
    roots = torch.where(is_good[:, None, None], roots, last)
    is_settled = is_good | (matrices.diagonal(dim1=-2, dim2=-1).sum(-1) == 0)
    if roots.is_meta or bool(is_settled.all()):  # on the meta device there are no values
        return roots, 0, 0
    failed = (~is_settled).nonzero().squeeze(1)
    again = inverse_root(matrices[failed].double(), p, damping=damping).to(roots.dtype)
    is_good = _are_finite(again)
    roots[failed[is_good]] = again[is_good]
    return roots, len(failed), int((~is_good).sum())


def _eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors; NaN for the matrices where LAPACK fails, and for these alone."""
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # documented, but not exported as mypy wants it
        if len(matrices) == 1:
            return torch.full_like(matrices[..., 0], torch.nan), torch.full_like(matrices, torch.nan)
        pairs = [_eigh(matrix.unsqueeze(0)) for matrix in matrices]
        return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    return values, vectors


def _are_finite(matrices: Tensor) -> Tensor:
    return matrices.isfinite().flatten(1).all(1)
