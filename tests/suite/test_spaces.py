import pytest

from suite.results.spaces import edges, hull

LR = {"low": 1e-4, "high": 1e-1, "log": True}
GAMMA = {"low": 0.0, "high": 1.0, "log": False}
DAMPING = {"choices": [1e-3, 1e-2, 1e-4]}

EDGES = {
    "inside": ({"lr": 1e-2, "gamma": 0.5, "damping": 1e-3}, {}),
    "low on a logarithmic scale": ({"lr": 1.4e-4}, {"lr": "low"}),  # 0.15 of 3 decades
    "inside on a logarithmic scale": ({"lr": 1.5e-4}, {}),
    "high on a logarithmic scale": ({"lr": 0.08}, {"lr": "high"}),
    "high": ({"gamma": 0.96}, {"gamma": "high"}),
    "low": ({"gamma": 0.05}, {"gamma": "low"}),
    "first choice": ({"damping": 1e-4}, {"damping": "low"}),
    "last choice": ({"damping": 1e-2}, {"damping": "high"}),
    "two at once": ({"lr": 1e-4, "gamma": 1.0}, {"lr": "low", "gamma": "high"}),
    "outside": ({"lr": 1.0}, {"lr": "high"}),
}


@pytest.mark.parametrize(("point", "expected"), EDGES.values(), ids=EDGES)
def test_the_edges_on_which_a_point_lies(point, expected):
    assert edges({"lr": LR, "gamma": GAMMA, "damping": DAMPING}, point) == expected


@pytest.mark.parametrize("choices", [["paper", "all", "none"], [True, False], [16, 32]], ids=str)
def test_choices_without_an_order_or_a_middle_have_no_edge(choices):
    assert edges({"layers": {"choices": choices}}, {"layers": choices[0]}) == {}


def test_the_hull_of_spaces():
    moved = {"lr": {"low": 1e-3, "high": 1.0, "log": True}, "gamma": GAMMA, "damping": DAMPING}
    whole = hull([{"lr": LR, "gamma": GAMMA, "damping": DAMPING}, moved])
    assert whole == {"lr": {"low": 1e-4, "high": 1.0, "log": True}, "gamma": GAMMA, "damping": DAMPING}
    assert LR["high"] == 0.1
    assert hull([]) == {}
