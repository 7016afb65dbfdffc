"""The atoms of search spaces, and what a specification checks."""

import math

import pytest

from optimizers import Categorical, Float, OptimizerSpec, adam, sgd

LR = {"lr": Float(low=0.1, high=1.0)}


def spec(**changes):
    return OptimizerSpec(**{"name": "own", "config": sgd.SGDConfig, "build": sgd.build, "search_space": LR, **changes})


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"low": 1.0, "high": 1.0}, "finite low < high, but got low=1.0, high=1.0"),
        ({"low": 0.0, "high": math.inf}, "finite low < high"),
        ({"low": math.nan, "high": 1.0}, "finite low < high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low > 0, but got low=0.0"),
    ],
)
def test_a_range_has_two_ends_in_order(bounds, reason):
    with pytest.raises(ValueError, match=reason):
        Float(**bounds)


def test_choices_are_at_least_two_and_distinct():
    with pytest.raises(ValueError, match=r"at least two choices, but got \(0.1,\)"):
        Categorical(choices=(0.1,))
    for choices in ((0.1, 0.2, 0.1), ("a", "a"), (1, 1.0), (1, True)):
        with pytest.raises(ValueError, match="all different, but got"):
            Categorical(choices=choices)
    assert Categorical(choices=(True, False, "both", 0.5)).choices[2] == "both"


def test_spaces_by_name():
    one = spec(spaces={"wide": {**LR, "nesterov": Categorical(choices=(True, False))}})
    assert one.space("default") is LR
    assert list(one.space("wide")) == ["lr", "nesterov"]
    with pytest.raises(ValueError, match=r"^own has no search space 'wid'; known: default, wide$"):
        one.space("wid")


def test_a_default_space_may_be_empty_and_no_other():
    assert spec(search_space={}).space("default") == {}
    with pytest.raises(
        ValueError, match="own's search space 'none' must be of one hyperparameter at least, but got {}"
    ):
        spec(spaces={"none": {}})


def test_the_default_space_is_given_once():
    with pytest.raises(ValueError, match="own gives the space 'default' as search_space"):
        spec(spaces={"default": LR})


@pytest.mark.parametrize(
    "changes",
    [
        {"search_space": {**LR, "beta": Float(low=0.0, high=0.5)}},
        {"spaces": {"wide": LR, "wider": {"beta": Float(low=0.0, high=0.5)}}},
        {"defaults": {"beta": 0.5}},
        {"cost_fields": frozenset({"beta"})},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_names_are_fields_of_the_config(changes):
    with pytest.raises(ValueError, match="own has no hyperparameter 'beta'; known: lr, momentum"):
        spec(**changes)


def test_choices_of_adam_keep_to_the_condition_of_its_paper():
    wide = adam.SPEC.space("wide")
    assert max(wide["beta1"].choices) ** 2 < math.sqrt(min(wide["beta2"].choices))
