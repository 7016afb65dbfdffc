"""How diagonal the full Kronecker factors of two layers are, halfway through and at the end (Figs 3, 7, 8, 9).

AdaFisher rests on it: "the energy of the factors is concentrated along the diagonal" (Section 3.1, Appendix A.1).
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from optimizers.draws import generator_of
from suite.diagnostics.base import Diagnostic, Finding, Moment
from suite.diagnostics.factors import full_factors, picked, record, structure_layers

SIGMA = 1e-3  # of the paper's noise
MAX_SIDE = 64  # rows and columns of a matrix that is stored
MAX_LENGTH = 1024  # entries of a vector that is stored


def gershgorin(m: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centers and radii of the Gershgorin discs of a matrix (Theorem A.1).

    Args:
        m: Shape ``[N, N]``.

    Returns:
        ``M_ii`` and ``Σ_{j≠i} |M_ij|``, shape ``[N]`` each.
    """
    centers = m.diagonal()
    return centers, (m - centers.diag()).abs().sum(1)


def with_noise(m: Tensor, generator: torch.Generator) -> Tensor:
    """Return a symmetric matrix with noise N(0, σ²) off its diagonal.

    The paper does not say that its noise is symmetric; here it is, lest the eigenvalues become complex.

    Args:
        m: Shape ``[N, N]``.
        generator: On the CPU.

    Returns:
        A new matrix.
    """
    noise = torch.randn(m.shape, dtype=m.dtype, generator=generator).mul_(SIGMA).triu_(1).to(m.device)
    return m + noise + noise.T


def kaiser_count(eigenvalues: Tensor) -> int:
    """Return how many eigenvalues are above their mean: Kaiser's criterion, which says 1 of a correlation matrix."""
    return int((eigenvalues > eigenvalues.mean()).sum())


def snr_db(m: Tensor, noisy: Tensor) -> float:
    """Return the signal-to-noise ratio of Eq. 6, ``10 log10(Σ_i M_ii² / Σ_{j>i} M̂_ij²)``.

    Args:
        m: M, shape ``[N, N]``.
        noisy: M̂, its shape; M itself for the ratio without noise.

    Returns:
        In decibels; infinite where nothing is above the diagonal.
    """
    signal, noise = m.diagonal().square().sum().item(), noisy.triu(1).square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def diagonal_share(m: Tensor) -> float:
    """Return the share of a matrix's energy that is on its diagonal, ``Σ_i M_ii² / Σ_ij M_ij²``, in (0, 1]."""
    on, off = (part.square().sum() for part in (m.diagonal(), m - m.diagonal().diag()))
    return (on / (on + off)).item()


def spectrum(m: Tensor) -> Tensor:
    """Return the magnitude of the two-dimensional Fourier transform, frequency 0 in the middle; shape as m."""
    magnitude: Tensor = torch.fft.fftshift(torch.fft.fft2(m)).abs()
    return magnitude


def reduced(m: Tensor) -> Tensor:
    """Return |M| by blocks' means, :data:`MAX_SIDE` a side at most: block i is from ⌊i N / 64⌋ to ⌈(i + 1) N / 64⌉."""
    side = min(len(m), MAX_SIDE)
    means: Tensor = F.adaptive_avg_pool2d(m.abs()[None], side)
    return means[0]


def describe(m: Tensor, noisy: Tensor) -> Finding:
    """Return what is said of one factor.

    Args:
        m: M, shape ``[N, N]``, symmetric.
        noisy: M̂, with noise.

    Returns:
        Values and arrays under short names, as ``docs/curvature.md`` explains them.
    """
    centers, radii = gershgorin(m)
    order = centers.argsort(descending=True)[picked(len(m), MAX_LENGTH).to(m.device)]
    clean, perturbed = (torch.linalg.eigvalsh(each).flip(0) for each in (m, noisy))
    kept = kaiser_count(clean)
    values = {
        "size": float(len(m)),
        "diagonal_share": diagonal_share(m),
        "discs_excluding_0": (centers.abs() > radii).double().mean().item(),
        "kaiser_count": float(kept),
        "kaiser_count_noisy": float(kaiser_count(perturbed)),
        "snr_db": snr_db(m, m),
        "snr_noisy_db": snr_db(m, noisy),
        "noise_over_diagonal": SIGMA / centers.mean().item() if centers.any() else math.inf,
    }
    if kept:  # none where all are equal
        values["kaiser_shift"] = ((perturbed - clean).abs()[:kept] / clean[:kept]).max().item()
    arrays = {
        "gershgorin_center": centers[order],
        "gershgorin_radius": radii[order],
        "eigenvalues": clean[picked(len(m), MAX_LENGTH)],
        "eigenvalues_noisy": perturbed[picked(len(m), MAX_LENGTH)],
        "fft": reduced(spectrum(m)),
        "fft_noisy": reduced(spectrum(noisy)),
        "heat": reduced(m),
    }
    return Finding(values=values, arrays=arrays)


def kronecker_structure(moment: Moment) -> Finding:
    """Return how diagonal H and S of two layers are, over all samples of the moment.

    Args:
        moment: The moment.

    Returns:
        ``kronecker_structure/<role>/<H or S>/<what>``, roles as :func:`~suite.diagnostics.factors.structure_layers`.
    """
    roles = structure_layers(moment.model)
    uses = record(moment, roles.values())
    values: dict[str, float] = {}
    arrays: dict[str, Tensor] = {}
    for place, (role, name) in enumerate(roles.items()):
        if not uses[name]:  # its weights are used functionally
            continue
        factors = full_factors(moment.model.get_submodule(name), uses[name])
        for side, (letter, m) in enumerate(zip("HS", factors, strict=True)):
            if not m.isfinite().all():  # of a network that has diverged
                continue
            found = describe(m, with_noise(m, generator_of("cpu", moment.seed, place, side)))
            prefix = f"kronecker_structure/{role}/{letter}"
            values |= {f"{prefix}/{what}": value for what, value in found.values.items()}
            arrays |= {f"{prefix}/{what}": array for what, array in found.arrays.items()}
    return Finding(values=values, arrays=arrays)


KRONECKER_STRUCTURE = Diagnostic(name="kronecker_structure", measure=kronecker_structure, at=(0.5, 1.0))
