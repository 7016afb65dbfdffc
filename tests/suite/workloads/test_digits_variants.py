"""The further tasks on digits: what is augmented, which way up a digit is, and that their targets are in reach."""

import pytest
import torch

from optimizers import REGISTRY as OPTIMIZERS
from suite import workloads
from suite.config import Budget
from suite.training.assembly import Task
from suite.training.clock import TrainClock
from suite.training.limits import StepLimit
from suite.training.loop import train
from suite.training.workers import Workers
from suite.workloads import digits, digits_variants
from tests.suite import tiny

ROUND_OFF = 1e-5  # float32
SPLITS = ("train", "val", "test")


def whole(split, draws=None):
    return split.take(torch.arange(len(split)), draws)


@pytest.mark.parametrize("split", SPLITS)
def test_without_draws_the_images_with_cutout_are_those_of_digits(split):
    plain, augmented = getattr(digits.load(), split), getattr(digits_variants.load_cutout(), split)
    (inputs, targets), (others, labels) = whole(plain), whole(augmented)
    assert torch.equal(targets, labels)
    assert torch.allclose(inputs, others, atol=ROUND_OFF)


def test_only_training_images_are_augmented():
    data = digits_variants.load_cutout()
    assert [getattr(data, split).num_draws for split in SPLITS] == [4, 0, 0]


def test_an_image_is_shifted_and_a_square_of_it_blanked():
    split = digits_variants.load_cutout().train
    first = torch.tensor([0])
    plain, _ = split.take(first)
    background = plain.min()
    moved, _ = split.take(first, torch.tensor([[0.0, 0.99, 0.5, 0.5]]))  # a pixel down and a pixel left
    expected = torch.full_like(plain, background)
    expected[..., 1:, :-1] = plain[..., :-1, 1:]
    expected[..., 3:5, 3:5] = 0  # the mean, 2 x 2 pixels around the centre
    assert torch.allclose(moved, expected, atol=ROUND_OFF)


@pytest.mark.parametrize("split", SPLITS)
def test_every_digit_is_there_in_four_rotations_by_which_it_is_labelled(split):
    upright = getattr(digits.load(), split).inputs
    turned = getattr(digits_variants.load_rotation(), split)
    assert torch.bincount(turned.targets).tolist() == [len(upright)] * 4
    for turn in range(4):
        images = turned.inputs[turned.targets == turn]
        for _ in range(turn):
            images = images.transpose(2, 3).flip(3)  # a quarter clockwise undoes one counterclockwise
        assert torch.equal(images, upright)


def test_the_network_of_the_rotations_differs_from_that_of_digits_in_its_head_alone():
    states = [workloads.find(name).build_model().state_dict() for name in ("digits", "digits_rotation")]
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    assert {name for name in shapes[0] if shapes[0][name] != shapes[1].get(name)} == {"10.weight", "10.bias"}
    assert shapes[1]["10.weight"] == (4, 64)


NUM_STEPS = {"digits_cutout": 600, "digits_rotation": 500, "digits_mlp": 400}  # of the runs that set the targets


@pytest.mark.parametrize("name", NUM_STEPS)
def test_sgd_reaches_the_target_but_not_at_once(name):
    spec, sgd = workloads.find(name), OPTIMIZERS["sgd"]
    budget = Budget(kind="steps", amount=NUM_STEPS[name])
    plan = tiny.plan(workload=name, batch_size=64, seed=0, budget=budget, stop_at_target=True)
    config, device = sgd.configure(lr=0.1), torch.device("cpu")
    task = Task(run=plan, workload=spec, spec=sgd, config=config, data=spec.load(), device=device)
    outcome = train(task, limit=StepLimit(NUM_STEPS[name]), clock=TrainClock(device), workers=Workers())
    assert outcome.status == "target_reached"
    assert outcome.epochs[0]["val_metric"] < spec.target - 0.1
