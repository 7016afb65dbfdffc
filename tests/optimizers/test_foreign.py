"""Classes of other packages as arms: those that serve train as ours do, all others are refused in one line."""

import copy
import json
import pickle
import re
import sys
from dataclasses import asdict

import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.optim import Optimizer

from optimizers import Categorical, Float, find, foreign, spec_of
from optimizers.foreign import keywords
from suite import cli
from suite.config import Arm, Budget
from suite.errors import UsageError
from suite.execution.conduct import _modules, check
from suite.plan import calibrations, race_runs, resolve_search_space
from suite.results import load
from suite.study import Race, Study, Tuning
from tests.optimizers.contract import assert_moved, assert_same, build, parameters, parametrize, quiet, train
from tests.optimizers.contract_networks import NETWORKS, conv_net, every_network, mlp

pytestmark = quiet

EXAMPLES = ["LAMB", "LARS", "SOAP", "MUON"]
PATHS = ["torch.optim.NAdam", "pytorch_optimizer.Lion", "pytorch_optimizer.AdaHessian", "pytorch_optimizer.SophiaH"]
SPECS = [*(find(f"optimizers.examples:{name}") for name in EXAMPLES), *map(find, PATHS)]
LEARNING_RATES = {  # where the default is too small to show progress in 40 steps
    "pytorch_optimizer.Lamb": 0.02,
    "pytorch_optimizer.LARS": 5.0,
    "pytorch_optimizer.SOAP": 0.02,
    "pytorch_optimizer.Muon": 0.05,
    "torch.optim.NAdam": 0.02,
    "pytorch_optimizer.Lion": 0.01,
    "pytorch_optimizer.AdaHessian": 0.05,
    "pytorch_optimizer.SophiaH": 0.5,
}

every_spec = parametrize(SPECS)


def learning_rate(spec):
    return LEARNING_RATES[spec.name]


@every_spec
@pytest.mark.parametrize("network", ["conv", "transformer"])
def test_lowers_the_loss(spec, network):
    model = NETWORKS[network]()
    losses = train(spec, model, build(spec, model, lr=learning_rate(spec)), 40)
    assert losses[-1] < 0.9 * losses[0]


@every_spec
@every_network
def test_moves_every_parameter_with_a_gradient(spec, network):
    model = network()
    before = parameters(model)
    train(spec, model, build(spec, model, lr=learning_rate(spec)), 5)
    assert_moved(model, before)


@every_spec
@pytest.mark.parametrize("num_steps", [0, 3])
def test_continues_bit_equal(spec, num_steps):
    model = conv_net()
    optimizer = build(spec, model)
    train(spec, model, optimizer, num_steps)
    twin = copy.deepcopy(model)
    twin_optimizer = build(spec, twin)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    losses = []
    for each, its in ((twin, twin_optimizer), (model, optimizer)):
        torch.manual_seed(1)
        losses.append(train(spec, each, its, 12))
    assert_same(*losses)
    assert_same(twin.state_dict(), model.state_dict())
    assert_same(twin_optimizer.state_dict(), optimizer.state_dict())


OFFERED = [
    f"{module.__name__}.{name}"
    for module in (torch.optim, pytorch_optimizer)
    for name, value in sorted(vars(module).items())
    if isinstance(value, type) and issubclass(value, Optimizer)
]
WARM_UP_STEPS = 12  # some move nothing in their first steps: AdaShift waits for ten gradients

REFUSED = {
    "closure at each step": ["torch.optim.LBFGS", "pytorch_optimizer.LBFGS"],
    "requires closure": ["pytorch_optimizer.AliG"],
    "only supports 2D": ["torch.optim.Muon", "pytorch_optimizer.SpectralSphere"],
    "does not support dense gradients": ["torch.optim.SparseAdam"],
    "no learning rate": ["pytorch_optimizer.A2Grad"],
    "`use_muon` must be set": [
        f"pytorch_optimizer.{name}" for name in ("AdaGO", "AdaMuon", "DistributedMuon", "Muon", "MuonClip", "NorMuon")
    ],
    "process group": ["pytorch_optimizer.DeMo"],
    "evaluated with other weights": [
        f"pytorch_optimizer.{name}" for name in ("SPlus", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD")
    ],
    "is built from .* not from params alone": [
        "torch.optim.Optimizer",
        *(
            f"pytorch_optimizer.{name}"
            for name in "AdaLOMO AdamMini BSAM FriendlySAM GSAM LOMO LookSAM Lookahead".split()
        ),
        *(f"pytorch_optimizer.{name}" for name in "Magma OrthoGrad PCGrad Ranger21 SAM SafeFP16Optimizer".split()),
        *(f"pytorch_optimizer.{name}" for name in "ScheduleFreeWrapper TRAC WSAM".split()),
    ],
}
REASONS = {path: reason for reason, paths in REFUSED.items() for path in paths}


@pytest.mark.parametrize("path", OFFERED)
def test_a_class_trains_or_is_refused_in_one_line(path):
    if path in REASONS:
        with pytest.raises(ValueError, match=f"^{path} .*{REASONS[path]}") as caught:
            find(path).configure()
        assert "\n" not in str(caught.value)
        return
    spec = find(path)
    config = spec.configure()
    assert pickle.loads(pickle.dumps(config)) == config
    assert spec.config(**json.loads(json.dumps(asdict(config)))) == config
    model = conv_net()
    optimizer, before = spec.build(model, config), parameters(model)
    for _ in range(WARM_UP_STEPS):
        train(spec, model, optimizer, 1)
        if any(not torch.equal(param, before[name]) for name, param in model.named_parameters()):
            break
    else:
        pytest.fail("it moves nothing")
    assert all(param.isfinite().all() for param in model.parameters())


def test_the_refused_are_offered():
    assert REASONS.keys() <= set(OFFERED)


class TakesModel(torch.optim.SGD):
    def __init__(self, model, lr=0.1):
        super().__init__(model.parameters(), lr)


class Unannotated(torch.optim.SGD):
    def __init__(self, params, lr=1, betas=(0.5, 0.5), mode="a", flag=False, *args, rest=None, function=len, **kw):
        super().__init__(params, lr)


class Unreadable(torch.optim.SGD):
    def __init__(self, params, lr: "Nowhere" = 0.1):  # noqa: F821
        super().__init__(params, lr)


HERE = __name__


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("torch.optim.NAdamm", "no optimizer 'torch.optim.NAdamm': torch.optim has no 'NAdamm'; known: NAdam, "),
        ("pytorch_optimizer.LAMP", "pytorch_optimizer has no 'LAMP'; known: .*Lamb"),
        ("torch.optimm.NAdam", "no optimizer 'torch.optimm.NAdam': No module named 'torch.optimm'"),
        ("nowhere.at_all.Adam", "no optimizer 'nowhere.at_all.Adam': No module named 'nowhere'"),
        (".Adam", "no optimizer '.Adam'"),
        ("torch.", "no optimizer 'torch.'"),
        ("torch.nn.Linear", "'torch.nn.Linear' must be a subclass of torch.optim.Optimizer, but is <class"),
        ("torch.optim", "'torch.optim' must be a subclass of torch.optim.Optimizer, but is <module"),
        (f"{HERE}.TakesModel", "TakesModel is built from model, not from params alone; give .*spec_of a build"),
        (f"{HERE}.Unreadable", "the constructor of .*Unreadable cannot be read: name 'Nowhere' is not defined"),
    ],
)
def test_a_path_that_leads_to_no_arm(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        find(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pytorch_optimizer.Lamb", "optimizers.examples:LAMB"])
def test_a_package_that_is_not_installed(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    monkeypatch.delitem(sys.modules, "optimizers.examples")
    foreign._described.cache_clear()
    with pytest.raises(ValueError, match="; pip install 'fisherbench\\[peers\\]'$") as caught:
        find(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("torch.optim.NAdam", {"beta": 0.9}, "torch.optim.NAdam has no hyperparameter 'beta'; known: lr, betas, eps"),
        ("pytorch_optimizer.ADOPT", {"clip_lambda": 1}, "has no hyperparameter 'clip_lambda'; known: lr, betas"),
        ("torch.optim.NAdam", {"lr": "fast"}, "lr must be a number, but got 'fast'"),
        ("torch.optim.NAdam", {"lr": True}, "lr must be a number, but got True"),
        ("torch.optim.NAdam", {"lr": None}, "lr must be a number, but got None"),
        ("pytorch_optimizer.Lamb", {"lr": float("nan")}, "lr must be a number, but got nan"),
        ("torch.optim.NAdam", {"betas": 0.9}, r"betas must be \(a number, a number\), but got 0.9"),
        ("torch.optim.NAdam", {"betas": "0.9"}, r"betas must be \(a number, a number\), but got '0.9'"),
        ("torch.optim.NAdam", {"betas": "0.9,high"}, "betas must be .*, but got '0.9,high'"),
        ("torch.optim.NAdam", {"betas": [0.9, 0.99, 0.9]}, r"betas must be .*, but got \[0.9, 0.99, 0.9\]"),
        ("torch.optim.NAdam", {"maximize": 1}, "maximize must be true or false, but got 1"),
        ("torch.optim.Adam", {"fused": "yes"}, "fused must be true or false or null, but got 'yes'"),
        ("pytorch_optimizer.AdaHessian", {"update_period": 2.5}, "update_period must be a whole number, but got 2.5"),
        ("pytorch_optimizer.SOAP", {"data_format": "x"}, "must be 'channels_first' or 'channels_last', but got 'x'"),
        ("torch.optim.NAdam", {"lr": -1}, "NAdam with lr=-1 cannot train a linear layer: ValueError: Invalid learning"),
        ("pytorch_optimizer.Lamb", {"lr": -1.0}, "Lamb with lr=-1.0 cannot train .*: NegativeLRError: learning rate"),
        ("torch.optim.Adam", {"betas": "2,0.9"}, r"Adam with betas='2,0.9' cannot train .*: Invalid beta"),
        ("pytorch_optimizer.AdaHessian", {"update_period": 0}, "with update_period=0 cannot train .*ZeroDivisionError"),
    ],
)
def test_a_value_that_is_refused(path, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        find(path).configure(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("betas", [(0.5, 0.9), [0.5, 0.9], "0.5,0.9", "(0.5, 0.9)", "[0.5,0.9]"])
def test_a_sequence_is_a_tuple_a_list_or_a_text(betas):
    spec = find("torch.optim.NAdam")
    config = spec.configure(betas=betas)
    assert keywords(config)["betas"] == (0.5, 0.9)
    assert spec.build(mlp(), config).param_groups[0]["betas"] == (0.5, 0.9)
    stored = json.loads(json.dumps(asdict(config)))
    assert stored["betas"] == (list(betas) if isinstance(betas, tuple) else betas)  # as chosen, for the sampler
    assert spec.configure(**stored) == pickle.loads(pickle.dumps(config)) == config


def test_a_switch_without_a_default_is_a_switch():
    spec = find("torch.optim.Adam")
    for value in (True, False, None):
        assert spec.build(mlp(), spec.configure(foreach=value)).param_groups[0]["foreach"] is value


def test_a_constructor_without_annotations():
    config = spec_of(f"{HERE}.Unannotated").configure(lr=0.5, betas="0.1,0.2", mode="b", flag=True, rest=3)
    assert keywords(config) == {"lr": 0.5, "betas": (0.1, 0.2), "mode": "b", "flag": True, "rest": 3}
    with pytest.raises(ValueError, match="mode must be a text, but got 1"):
        spec_of(f"{HERE}.Unannotated").configure(mode=1)


def build_from_model(model, config):
    return TakesModel(model, **keywords(config))


def test_a_build_of_ones_own():
    spec = spec_of(f"{HERE}.TakesModel", build=build_from_model, defaults={"lr": 0.2})
    model = mlp()
    assert build(spec, model).param_groups[0]["lr"] == 0.2
    losses = train(spec, model, build(spec, model), 20)
    assert losses[-1] < losses[0]


def test_what_a_specification_may_say():
    space = {"lr": Float(low=0.1, high=1.0)}
    said = spec_of(
        "torch.optim.SGD", search_space=space, spaces={"wide": space}, cost_fields={"nesterov"}, reference="R"
    )
    assert (said.space("default"), said.space("wide"), said.reference) == (space, space, "R")
    assert said.cost_fields == {"nesterov"}
    for wrong in ({"search_space": {"rate": space["lr"]}}, {"defaults": {"rate": 1}}, {"cost_fields": {"rate"}}):
        with pytest.raises(ValueError, match="torch.optim.SGD has no hyperparameter 'rate'; known: lr, momentum"):
            spec_of("torch.optim.SGD", **wrong)
    assert {"update_period", "num_samples", "foreach"} <= find("pytorch_optimizer.SophiaH").cost_fields
    assert not {"lr", "betas", "weight_decay", "p"} & find("pytorch_optimizer.SophiaH").cost_fields


@pytest.mark.parametrize("name", ["AdaHessian", "SophiaH"])
def test_a_graph_is_asked_for_where_the_next_step_needs_it(name):
    spec = find(f"pytorch_optimizer.{name}")
    assert spec.create_graph
    assert find(f"{spec.build.args[0].__module__}.{name}").create_graph
    assert not spec_of(f"pytorch_optimizer.{name}", create_graph=False).create_graph
    model = mlp()
    optimizer = build(spec, model, update_period=3)
    needed = []
    for _ in range(7):
        needed.append(spec.needs_graph(optimizer))
        train(spec, model, optimizer, 1)
    assert needed == [True, False, False, True, False, False, True]
    twin = build(spec, mlp(), update_period=3)
    twin.load_state_dict(optimizer.state_dict())
    assert not spec.needs_graph(twin)


def test_the_trial_of_a_value_leaves_no_trace():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with torch.no_grad():
        find("pytorch_optimizer.AdaHessian").configure()
    assert torch.equal(torch.get_rng_state(), before)


def test_muon_has_groups_for_matrices_and_for_the_rest():
    spec = find("optimizers.examples:MUON")
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    muon, adamw = build(spec, model, lr=0.5, adamw_lr=0.25).param_groups
    assert muon["use_muon"] and not adamw["use_muon"]
    assert (muon["lr"], adamw["lr"]) == (0.5, 0.25)
    assert [param.shape for param in muon["params"]] == [(4, 4)]
    assert len(adamw["params"]) == 4
    assert len(build(spec, nn.Linear(3, 3, bias=False)).param_groups) == 1


NADAM = Arm(name="nadam", optimizer="torch.optim.NAdam", search_space={"lr": Float(low=1e-4, high=0.1, log=True)})
STEPS = Budget(kind="steps", amount=7)


def study(*arms, **stages):
    return Study(name="mine", question="?", workload="tests.suite.tiny:MLP", batch_size=16, arms=arms, **stages)


def test_a_single_training_with_a_dotted_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    given = ["--given", "lr=0.01", "--given", "betas=0.8,0.99", "--budget", "7 steps"]
    run = ["run", "--workload", "tests.suite.tiny:MLP", "--optimizer", "torch.optim.NAdam", *given]
    assert cli.main(run) == 0
    assert "with torch.optim.NAdam: 7 steps" in capsys.readouterr().out
    [row] = load("results/single").runs.to_dict("records")
    assert (row["optimizer"], row["lr"], row["status"]) == ("torch.optim.NAdam", 0.01, "completed")
    assert json.loads(row["hyperparameters"])["betas"] == "0.8,0.99"


@pytest.mark.parametrize(
    ("optimizer", "given", "message"),
    [
        ("torch.optim.LBFGS", "lr=1", "arm 'torch.optim.LBFGS': torch.optim.LBFGS needs a closure"),
        ("torch.optim.NAdam", "lr=-1", "Invalid learning rate: -1"),
        ("torch.optim.NAdam", "betas=0.9", r"betas must be \(a number, a number\), but got 0.9"),
        ("torch.optim.NAdam", "beta=0.9", "no hyperparameter 'beta'"),
        ("nowhere.NAdam", "lr=1", "no optimizer 'nowhere.NAdam'"),
    ],
)
def test_a_single_training_that_cannot_be_done(tmp_path, monkeypatch, capsys, optimizer, given, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["run", "--workload", "tests.suite.tiny:MLP", "--optimizer", optimizer, "--given", given]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told)
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_study_searches_what_the_arm_says():
    betas = Categorical(choices=("0.9,0.99", "0.9,0.999"))
    arm = Arm(name="nadam", optimizer="torch.optim.NAdam", search_space={**NADAM.search_space, "betas": betas})
    plan = study(arm, tune=Tuning(budget=STEPS, num_trials=2), race=Race(budget=STEPS))
    check(plan)
    assert resolve_search_space(arm, "wide") == arm.search_space


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "arm 'nadam' has nothing to search: torch.optim.NAdam declares no space; give the arm one"),
        ({"rate": Float(low=0.1, high=1.0)}, "torch.optim.NAdam has no hyperparameter 'rate'; known: lr, betas"),
        ({"lr": Float(low=-1.0, high=1.0)}, "NAdam with lr=-1.0 cannot train a linear layer"),
        ({"betas": Categorical(choices=("0.9", "0.8"))}, "betas must be"),
    ],
)
def test_a_space_that_cannot_be_searched(space, message):
    arm = Arm(name="nadam", optimizer="torch.optim.NAdam", search_space=space)
    with pytest.raises(UsageError, match=message) as caught:
        check(study(arm, tune=Tuning(budget=STEPS, num_trials=2)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", ["torch.optim.LBFGS", "sgdd"])
def test_an_arm_whose_time_cannot_be_calibrated(optimizer):
    race = Race(budget=Budget(kind="wall_clock", amount=5))
    with pytest.raises(UsageError, match="^arm 'a': .*(needs a closure|no optimizer 'sgdd')"):
        check(study(Arm(name="a", optimizer=optimizer), race=race))


def test_an_interval_counts_in_what_a_step_costs():
    arm = Arm(name="a", optimizer="pytorch_optimizer.AdaHessian", fixed={"update_period": 10, "lr": 0.1})
    race = Race(budget=Budget(kind="wall_clock", amount=5), seeds=(1,))
    [cost] = calibrations(race_runs(study(arm, race=race)))
    assert cost.arm.fixed == {"update_period": 10}


def test_modules_of_classes_are_shipped():
    assert _modules("sgd", "torch.optim.NAdam", "mine.optimizers.Adam", "yours:SPEC") == ["mine", "torch", "yours"]
