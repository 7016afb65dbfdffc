"""Full Kronecker factors against loops over samples and positions, and what is said of a matrix by definition."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torchvision.models import mobilenet_v3_large, resnet18

from optimizers import AdaFisher
from optimizers.rules import PAPER_RULES
from suite.diagnostics import factors, structure
from suite.diagnostics.factors import full_factors, picked, record, structure_layers
from suite.diagnostics.structure import KRONECKER_STRUCTURE, describe, gershgorin, reduced, snr_db, spectrum, with_noise
from suite.workloads.digits import build_model as digits
from suite.workloads.networks.convolutional import mlp
from suite.workloads.networks.resnet import resnet8
from tests.suite.diagnostics.moments import adam, assert_leaves_all, moment, network, sgd

CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64; sums in another order


def generator():
    return torch.Generator().manual_seed(0)


def symmetric(n):
    m = torch.randn(n, n, dtype=torch.float64)
    return m @ m.T / n


def by_loops(rows):
    """E[x xᵀ], one product at a time."""
    size = len(rows[0])
    total = [[0.0] * size for _ in range(size)]
    for x in rows:
        for i, j in itertools.product(range(size), repeat=2):
            total[i][j] += float(x[i]) * float(x[j])
    return torch.tensor(total, dtype=torch.float64) / len(rows)


def patch_rows(conv, h):
    """h̄ at each sample and position: a convolution by a kernel with a single 1 gives one entry of the patch."""
    size = conv.in_channels * math.prod(conv.kernel_size)
    probe = type(conv)(
        conv.in_channels,
        size,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=False,
        padding_mode=conv.padding_mode,
    ).double()
    with torch.no_grad():
        probe.weight.copy_(torch.eye(size).view_as(probe.weight))
        entries = probe(h)
    rows = [sample[:, place] for sample in entries.flatten(2) for place in range(entries[0, 0].numel())]
    return [torch.cat([row, torch.ones(1)]) for row in rows] if conv.bias is not None else rows


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv1d(2, 3, 3, stride=2, padding=1), (7,)),
        (nn.Conv2d(2, 3, (2, 3), dilation=(2, 1), padding=(1, 0), bias=False), (5, 6)),
        (nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular"), (4, 5)),
        (nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), (3, 4, 3)),
    ],
    ids=["1d strided", "2d dilated", "same, circular", "3d"],
)
def test_factors_of_a_convolution_are_means_over_samples_and_positions(conv, shape):
    conv = conv.double()
    h = torch.randn(3, conv.in_channels, *shape, dtype=torch.float64)
    s = torch.randn_like(conv(h))
    found = full_factors(conv, [(h, s)])
    s_rows = [sample[:, place] for sample in s.flatten(2) for place in range(s[0, 0].numel())]
    torch.testing.assert_close(found[0], by_loops(patch_rows(conv, h)), **CLOSE)
    torch.testing.assert_close(found[1], by_loops(s_rows), **CLOSE)


def test_factors_of_a_linear_layer_take_every_position_of_every_use(monkeypatch):
    monkeypatch.setattr(factors, "CHUNK", 2)
    linear = nn.Linear(3, 2)
    uses = [(torch.randn(3, 4, 3), torch.randn(3, 4, 2)), (torch.randn(5, 3), torch.randn(5, 2))]
    h_rows = [torch.cat([row, torch.ones(1)]) for h, _ in uses for row in h.reshape(-1, 3)]
    s_rows = [row for _, s in uses for row in s.reshape(-1, 2)]
    found = full_factors(linear, uses)
    torch.testing.assert_close(found[0], by_loops(h_rows), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[1], by_loops(s_rows), rtol=1e-6, atol=1e-7)
    assert found[0].dtype == torch.float64


def test_of_a_large_factor_evenly_spaced_rows_and_columns_are_kept(monkeypatch):
    linear = nn.Linear(8, 3)
    uses = [(torch.randn(20, 8), torch.randn(20, 3))]
    whole, _ = full_factors(linear, uses)
    monkeypatch.setattr(factors, "MAX_SIZE", 5)
    part, s = full_factors(linear, uses)
    kept = torch.tensor([0, 2, 4, 6, 8])
    torch.testing.assert_close(part, whole[kept][:, kept])
    assert len(s) == 3


def test_s_is_the_derivative_of_each_samples_own_loss():
    model = network()
    model[3] = nn.Identity()  # no randomness
    taken = moment(AdaFisher, model)
    uses = record(taken, ["0", "4", "7"])
    model.train()
    values = {"": taken.inputs}
    h = taken.inputs
    for name, module in model.named_children():
        values[f"h{name}"] = h
        h = F.relu(h) if isinstance(module, nn.ReLU) else module(h)  # not in place
        h.retain_grad()
        values[f"a{name}"] = h
    log_probs = h.log_softmax(1)
    (-sum(log_probs[i, c] for i, c in enumerate(taken.targets))).backward()  # the sum of the samples' own losses
    for name in ("0", "4", "7"):
        ((found_h, found_s),) = uses[name]
        torch.testing.assert_close(found_h, values[f"h{name}"], **CLOSE)
        torch.testing.assert_close(found_s, values[f"a{name}"].grad, **CLOSE)


def test_an_input_that_a_later_layer_overwrites_is_kept_as_it_was():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.frozen = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)

        def forward(self, x):
            h = self.first(x)
            return self.frozen(h) + h.relu_()

    taken = moment(sgd, Net().double(), shape=(4,))
    ((h, _),) = record(taken, ["frozen"])["frozen"]
    torch.testing.assert_close(h, taken.model.first(taken.inputs).detach())
    assert (h < 0).any()


def test_a_layer_that_no_gradient_reaches_is_not_recorded():
    model = network()
    taken = moment(sgd, model)
    model[0].requires_grad_(False)
    assert {name: len(uses) for name, uses in record(taken, ["0", "4"]).items()} == {"0": 0, "4": 1}


def test_dropout_draws_from_the_moments_seed():
    taken = moment(sgd)
    torch.manual_seed(1)
    one = KRONECKER_STRUCTURE.measure(taken).values
    torch.manual_seed(2)
    assert KRONECKER_STRUCTURE.measure(taken).values == one


def test_a_layer_used_twice_is_recorded_twice_and_one_without_a_gradient_not_at_all():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            self.idle(x)
            return self.twice(self.twice(input=x))

    taken = moment(sgd, Net().double(), shape=(4,))
    uses = record(taken, ["twice", "idle"])
    assert (len(uses["twice"]), len(uses["idle"])) == (2, 0)
    torch.testing.assert_close(uses["twice"][0][0], taken.inputs)


def test_gershgorin_discs_are_those_of_the_definition():
    m = symmetric(6)
    m[0, 5] += 1  # rows, not columns
    centers, radii = gershgorin(m)
    for i in range(6):
        assert centers[i] == m[i, i]
        assert radii[i].item() == pytest.approx(sum(abs(m[i, j].item()) for j in range(6) if j != i))
    for eigenvalue in torch.linalg.eigvals(m):  # Theorem A.1
        assert ((eigenvalue - centers).abs() <= radii + 1e-12).any()


def test_what_is_said_of_a_known_matrix():
    m = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    noisy = torch.tensor([[2.0, 1.5], [1.5, 2.0]], dtype=torch.float64)
    found = describe(m, noisy)
    assert found.values == pytest.approx({
        "size": 2,
        "diagonal_share": 8 / 10,
        "discs_excluding_0": 1,
        "kaiser_count": 1,
        "kaiser_count_noisy": 1,
        "kaiser_shift": 0.5 / 3,
        "snr_db": 10 * math.log10(8 / 1),
        "snr_noisy_db": 10 * math.log10(8 / 2.25),
        "noise_over_diagonal": 1e-3 / 2,
    })
    assert found.arrays["eigenvalues"].tolist() == pytest.approx([3, 1])
    assert found.arrays["eigenvalues_noisy"].tolist() == pytest.approx([3.5, 0.5])
    assert found.arrays["gershgorin_radius"].tolist() == [1, 1]


def test_discs_that_reach_0_are_counted_out():
    m = torch.tensor([[2.0, 0.0, 1.5], [0.0, 3.0, 0.0], [1.5, 0.0, 1.5]])  # radii 1.5, 0, 1.5: the last one touches 0
    assert describe(m, m).values["discs_excluding_0"] == pytest.approx(2 / 3)


def test_kaisers_criterion_counts_eigenvalues_above_their_mean():
    assert structure.kaiser_count(torch.tensor([5.0, 3.0, 1.0, 1.0, 0.0])) == 2
    correlation = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])  # 1.8, 1, 0.2: above 1 is one
    assert structure.kaiser_count(torch.linalg.eigvalsh(correlation)) == 1


def test_snr_is_eq_6():
    m, noisy = symmetric(7), symmetric(7)
    signal, noise = 0.0, 0.0
    for i in range(7):
        signal += m[i, i].item() ** 2
        for j in range(i + 1, 7):
            noise += noisy[i, j].item() ** 2
    assert snr_db(m, noisy) == pytest.approx(10 * math.log10(signal / noise))
    assert snr_db(torch.eye(3), torch.eye(3)) == math.inf
    assert snr_db(torch.zeros(3, 3), torch.ones(3, 3)) == -math.inf


def test_noise_is_off_the_diagonal_symmetric_and_of_the_papers_size():
    m = symmetric(200)
    noisy = with_noise(m, generator())
    noise = noisy - m
    assert torch.equal(noisy.diagonal(), m.diagonal())
    assert torch.equal(noisy, noisy.T)
    above = noise[torch.triu(torch.ones(200, 200), 1).bool()]  # 19,900 draws
    assert above.std().item() == pytest.approx(1e-3, rel=0.03)
    assert above.mean().item() == pytest.approx(0, abs=5e-5)


@pytest.mark.parametrize("n", [4, 5])
def test_the_spectrum_is_the_transform_with_frequency_0_in_the_middle(n):
    m = symmetric(n)
    found = spectrum(m)
    for k, l in itertools.product(range(n), repeat=2):  # noqa: E741
        angles = [(p, q, -2 * math.pi * (k * p + l * q) / n) for p, q in itertools.product(range(n), repeat=2)]
        entry = sum(m[p, q].item() * complex(math.cos(a), math.sin(a)) for p, q, a in angles)
        place = (k + n // 2) % n, (l + n // 2) % n
        assert found[place].item() == pytest.approx(abs(entry), abs=1e-12)


def test_the_spectrum_of_the_identity_is_an_antidiagonal():
    found = spectrum(torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(found, 5 * torch.eye(5, dtype=torch.float64).flip(0))


def test_matrices_are_stored_as_means_of_blocks():
    m = torch.arange(128.0 * 128).view(128, 128) * -1
    found = reduced(m)
    assert found.shape == (64, 64)
    assert found[3, 5] == m[6:8, 10:12].abs().mean()
    uneven = torch.rand(65, 65)
    assert reduced(uneven)[1, 63] == pytest.approx(uneven[1:3, 63:65].mean().item())
    assert torch.equal(reduced(m[:10, :10]), m[:10, :10].abs())


def test_vectors_are_stored_at_evenly_spaced_places_of_their_order(monkeypatch):
    monkeypatch.setattr(structure, "MAX_LENGTH", 3)
    m = torch.diag(torch.tensor([3.0, 9.0, 1.0, 5.0, 7.0]))
    found = describe(m, m).arrays
    assert found["gershgorin_center"].tolist() == [9, 5, 1]
    assert found["eigenvalues"].tolist() == pytest.approx([9, 5, 1])
    assert picked(5, 10).tolist() == [0, 1, 2, 3, 4]


def test_values_and_arrays_are_those_of_the_recorded_factors():
    taken = moment(adam, seed=3)
    found = KRONECKER_STRUCTURE.measure(taken)
    for role, name in {"convolution": "4", "last_linear": "7"}.items():
        h, s = full_factors(taken.model.get_submodule(name), record(taken, [name])[name])
        for letter, m in {"H": h, "S": s}.items():
            prefix = f"kronecker_structure/{role}/{letter}"
            share = sum(m[i, i].item() ** 2 for i in range(len(m))) / sum(x * x for x in m.flatten().tolist())
            assert found.values[f"{prefix}/diagonal_share"] == pytest.approx(share)
            assert found.values[f"{prefix}/size"] == len(m)
            assert 0 < share < 1
            torch.testing.assert_close(found.arrays[f"{prefix}/eigenvalues"], torch.linalg.eigvalsh(m).flip(0))
            torch.testing.assert_close(found.arrays[f"{prefix}/heat"], m.abs())
            assert not torch.equal(found.arrays[f"{prefix}/eigenvalues"], found.arrays[f"{prefix}/eigenvalues_noisy"])


def test_noise_depends_on_the_seed_alone():
    name = "kronecker_structure/last_linear/H/eigenvalues_noisy"

    def noisy(seed):
        torch.manual_seed(0)
        model = network()
        model[3] = nn.Identity()  # dropout depends on the seed too
        return KRONECKER_STRUCTURE.measure(moment(sgd, model, seed=seed)).arrays[name]

    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2))


def test_without_its_off_diagonal_a_factor_is_wholly_diagonal(monkeypatch):
    whole = structure.full_factors

    def diagonals(*args):  # clamped, as a unit that is always 0 has a disc at 0
        return [m.diagonal().clamp(min=1e-9).diag() for m in whole(*args)]

    monkeypatch.setattr(structure, "full_factors", diagonals)
    values = KRONECKER_STRUCTURE.measure(moment()).values
    for role, letter in itertools.product(("convolution", "last_linear"), "HS"):
        prefix = f"kronecker_structure/{role}/{letter}"
        assert values[f"{prefix}/diagonal_share"] == 1
        assert values[f"{prefix}/snr_db"] == math.inf
        assert values[f"{prefix}/discs_excluding_0"] == 1


def test_in_resnet_18_the_layers_are_the_papers_37th_and_41st():
    model = resnet18()
    layers = [name for name, module in model.named_modules() if isinstance(module, tuple(PAPER_RULES))]
    assert structure_layers(model) == {"convolution": layers[36], "last_linear": layers[40]}
    assert (len(layers), layers[36], layers[40]) == (41, "layer4.1.conv1", "fc")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (digits, {"convolution": "3", "last_linear": "10"}),
        (mlp, {"last_linear": "2"}),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3, groups=2)), {"convolution": "0"}),
        (lambda: nn.Sequential(nn.ReLU()), {}),
    ],
    ids=["digits", "mlp", "one of them grouped", "none"],
)
def test_in_other_networks_they_are_the_last_that_there_are(build, expected):
    assert structure_layers(build()) == expected


@pytest.mark.parametrize("build", [resnet8, mobilenet_v3_large])
def test_a_shortcut_or_a_grouped_convolution_is_no_choice(build):
    model = build()
    conv = model.get_submodule(structure_layers(model)["convolution"])
    assert conv.groups == 1
    assert max(conv.kernel_size) > 1


def test_a_network_without_these_layers_has_no_structure():
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(4)).double()
    found = KRONECKER_STRUCTURE.measure(moment(sgd, model, shape=(4,)))
    assert (found.values, found.arrays) == ({}, {})


def test_a_network_that_has_diverged_gives_no_numbers():
    taken = moment(sgd)
    with torch.no_grad():
        taken.model[7].weight[0, 0] = math.nan
    assert not any("/S/" in name for name in KRONECKER_STRUCTURE.measure(taken).values)


def test_one_worker_alone_can_measure_a_network_whose_norms_are_over_all():
    model = network()
    expected = moment(sgd, model)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(factors.solitary_copy(model))
    solitary = factors.solitary_copy(synced)
    assert isinstance(synced[1], nn.SyncBatchNorm)
    assert not isinstance(solitary[1], nn.SyncBatchNorm)
    model.eval(), solitary.eval()
    torch.testing.assert_close(solitary(expected.inputs), model(expected.inputs))


@pytest.mark.parametrize("build", [AdaFisher, adam], ids=["adafisher", "adam"])
def test_measuring_changes_nothing(build):
    assert_leaves_all(KRONECKER_STRUCTURE, moment(build))
