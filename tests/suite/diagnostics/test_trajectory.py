"""The plane of two weights against the network's formula, in numpy."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline
from torch import nn

from optimizers import AdaFisher
from suite.diagnostics.trajectory import LOSS_PLANE, TRAJECTORY, axis
from suite.workloads.networks.convolutional import mlp
from tests.suite.diagnostics.moments import adam, assert_leaves_all, moment


def of_iris(build=adam, **changes):
    return moment(build, mlp().double(), num_samples=30, shape=(2,), targets=torch.arange(30) % 3, steps=0, **changes)


def loss_at(taken, w0, w1):
    """Cross entropy of tanh(w·x + b) v + c, by the formula."""
    b, v, c = (p.detach().numpy() for p in list(taken.model.parameters())[1:])
    hidden = np.tanh(taken.inputs.numpy() @ np.array([w0, w1]) + b[0])
    logits = hidden[:, None] * v[:, 0] + c
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_probs[np.arange(len(logits)), taken.targets.numpy()].mean()


def test_a_point_of_the_trajectory_is_two_weights_and_their_loss():
    taken = of_iris()
    found = TRAJECTORY.measure(taken)
    w0, w1 = taken.model[0].weight.detach().flatten().tolist()
    assert found.arrays["trajectory/weights"].tolist() == [w0, w1]
    assert found.values == {"trajectory/loss": pytest.approx(loss_at(taken, w0, w1))}


def test_a_point_keeps_its_weights_when_training_goes_on():
    taken = of_iris()
    weights = TRAJECTORY.measure(taken).arrays["trajectory/weights"]
    before = weights.tolist()
    with torch.no_grad():
        taken.model[0].weight.add_(1)
    assert weights.tolist() == before


def test_the_plane_is_the_loss_at_each_of_its_points():
    taken = of_iris()
    found = LOSS_PLANE.measure(taken).arrays
    points = found["loss_plane/axis"].tolist()
    assert (len(points), points[0], points[30], points[-1]) == (61, -3, 0, 3)
    expected = [[loss_at(taken, w0, w1) for w1 in points] for w0 in points]
    torch.testing.assert_close(found["loss_plane/loss"], torch.tensor(expected, dtype=torch.float64))


def test_the_planes_extent_is_the_same_for_all():
    torch.manual_seed(1)
    one = LOSS_PLANE.measure(of_iris()).arrays
    other = LOSS_PLANE.measure(of_iris(AdaFisher)).arrays
    assert torch.equal(one["loss_plane/axis"], other["loss_plane/axis"])
    assert not torch.equal(one["loss_plane/loss"], other["loss_plane/loss"])


def test_the_papers_200_points_a_side_are_a_cubic_interpolation_of_ours():
    taken = of_iris()
    with torch.no_grad():  # as after training: a steep unit and large logits
        taken.model[2].weight.mul_(5)
    loss = LOSS_PLANE.measure(taken).arrays["loss_plane/loss"].numpy()
    fine = np.linspace(-3, 3, 200)
    interpolated = RectBivariateSpline(axis(), axis(), loss)(fine, fine)
    places = range(0, 200, 7)
    exact = np.array([[loss_at(taken, fine[i], fine[j]) for j in places] for i in places])
    error = np.abs(interpolated[np.ix_(places, places)] - exact).max()
    assert error < 1e-3 * (exact.max() - exact.min())


@pytest.mark.parametrize("diagnostic", [TRAJECTORY, LOSS_PLANE], ids=lambda each: each.name)
def test_a_first_layer_of_more_weights_is_refused(diagnostic):
    taken = moment(adam, nn.Sequential(nn.Linear(3, 2)).double(), shape=(3,), steps=0)
    with pytest.raises(ValueError, match=r"the first weight, of shape \(2, 3\), must have two entries"):
        diagnostic.measure(taken)


@pytest.mark.parametrize("diagnostic", [TRAJECTORY, LOSS_PLANE], ids=lambda each: each.name)
@pytest.mark.parametrize("build", [AdaFisher, adam], ids=["adafisher", "adam"])
def test_measuring_changes_nothing(diagnostic, build):
    taken = of_iris(build)
    taken.model[0].weight.grad = torch.ones(1, 2, dtype=torch.float64)
    assert_leaves_all(diagnostic, taken)
