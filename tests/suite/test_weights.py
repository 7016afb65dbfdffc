"""Networks that begin with the weights of others."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from suite.execution.execute import execute
from suite.execution.job import Job
from suite.results import Store
from suite.training.assembly import Assembly, take_over
from suite.training.workers import Workers
from tests.suite import tiny


def net(num_outputs):
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, num_outputs))


def test_what_agrees_in_name_and_shape_is_taken_over_and_the_rest_stays():
    one, other = net(4), net(5)
    one[1].running_mean.fill_(7.0)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    take_over(other, one.state_dict())
    for name, value in other.state_dict().items():
        expected = before[name] if name.startswith("2.") else one.state_dict()[name]
        assert torch.equal(value, expected), name


def test_networks_without_a_layer_in_common_are_refused():
    with pytest.raises(ValueError, match="no layer in common"):
        take_over(nn.Linear(2, 2), {"other.weight": torch.zeros(2, 2), "weight": torch.zeros(3, 2)})


def test_the_optimizer_is_built_on_the_weights_that_were_taken_over():
    task = tiny.task("adafisher")
    weights = {name: value + 1 for name, value in tiny.build_mlp().state_dict().items()}
    assembly = Assembly(replace(task, weights=weights), Workers())
    assert all(torch.equal(value, weights[name]) for name, value in assembly.model.state_dict().items())


def test_a_race_begins_where_its_pretraining_ended(tmp_path):
    store = Store(tmp_path / "results", "tiny")
    before = tiny.plan(purpose="pretrain")
    race = tiny.plan(purpose="race", arm=tiny.arm(lr=0.0), initial_weights=before.run_id)
    for run in (before, race):
        assert execute(Job(run=run), store, Workers()) == "completed"
    rows = store.finished()
    assert rows[race.run_id]["initial_weights"] == before.run_id
    assert rows[race.run_id]["val_loss"] == pytest.approx(rows[before.run_id]["val_loss"]), "with lr 0 nothing moves"
    random = tiny.plan(purpose="race", arm=tiny.arm(lr=0.0))
    execute(Job(run=random), store, Workers())
    assert store.finished()[random.run_id]["val_loss"] != pytest.approx(rows[race.run_id]["val_loss"])


def test_a_race_whose_pretraining_is_missing_fails_and_says_so(tmp_path):
    store = Store(tmp_path / "results", "tiny")
    race = tiny.plan(purpose="race", initial_weights="0123")
    assert execute(Job(run=race), store, Workers()) == "failed"
    assert "there are no weights to begin with: the pretraining 0123" in store.finished()[race.run_id]["error"]


def test_only_a_pretraining_leaves_its_weights(tmp_path):
    store = Store(tmp_path / "results", "tiny")
    execute(Job(run=tiny.plan()), store, Workers())
    assert store.folder.names("weights") == []
