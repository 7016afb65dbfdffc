import math

import pandas as pd
import pytest

from reports.performance_profile import performance_profile


def test_performance_profile_worked_example():
    costs = pd.DataFrame({
        "a": [1.0, 2.0, math.nan, 4.0],
        "b": [2.0, 2.0, math.inf, 3.0],
        "c": [math.nan, 8.0, math.nan, 3],
    })
    profile = performance_profile(costs)  # of four problems, one of which no arm solves
    assert profile.index.tolist() == pytest.approx([1.0, 4 / 3, 2.0, 4.0])
    assert profile["a"].tolist() == [0.5, 0.75, 0.75, 0.75]
    assert profile["b"].tolist() == [0.5, 0.5, 0.75, 0.75]
    assert profile["c"].tolist() == [0.25, 0.25, 0.25, 0.5]


def test_without_an_arm_the_profiles_of_others_change():
    # b is best on the third problem only as long as c is not there
    costs = pd.DataFrame({"a": [1.0, 1.0, 9.0], "b": [2.0, 2.0, 3.0], "c": [9.0, 9.0, 1.0]})
    both, two = performance_profile(costs), performance_profile(costs[["a", "b"]])
    assert two["b"].iloc[0] == pytest.approx(1 / 3) and both["b"].iloc[0] == 0.0


def test_profile_at_the_edges():
    assert performance_profile(pd.DataFrame({"a": []})).empty
    zero = performance_profile(pd.DataFrame({"a": [0.0], "b": [1.0]}))
    assert zero.loc[1.0].tolist() == [1.0, 0.0]
    unsolved = performance_profile(pd.DataFrame({"a": [math.nan], "b": [math.inf]}))
    assert unsolved.index.tolist() == [1.0] and unsolved.loc[1.0].tolist() == [0.0, 0.0]
