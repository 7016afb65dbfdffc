"""What the summary says about the search: its protocol, its edges, its pruner, and what it bought."""

import pytest

from reports.frames import prepare
from reports.summary import summarize
from reports.sweep import sweep
from tests.reports.searches import SPACE, entries, many, pruned, searched
from tests.reports.synthetic import TableSet, frames_of, tune_of
from tests.reports.test_summary import has

TUNED = {"a": [0.95, 0.96, 0.97, 0.98], "a (default)": [0.85, 0.861, 0.869, 0.88], "b": [0.9, 0.95, 0.91, 0.94]}


def one_search(lr, space=None):
    runs = searched("sgd", [({"lr": 0.01, "momentum": 0.5}, 0.7), ({"lr": lr, "momentum": 0.5}, 0.9)], space)
    return frames_of(runs=runs)


@pytest.mark.parametrize(
    ("lr", "edges", "words"),
    [(0.08, {"lr": "high"}, "upper"), (1.1e-4, {"lr": "low"}, "lower"), (0.05, {}, None)],
    ids=["upper", "lower", "inside"],
)
def test_edges_are_those_of_the_space(lr, edges, words):
    (search,) = sweep(one_search(lr))
    assert search.edges == edges
    cautions = summarize(one_search(lr)).cautions
    sentence = f"sgd: the best lr ({lr:.3g}) lies on the {words} edge of the space searched (0.0001 to 0.1)"
    assert has(cautions, sentence, "the optimum may lie outside") == bool(edges)
    assert has(cautions, "--set tune.max_extensions=1") == bool(edges)


def test_edges_of_a_set():
    space = {"lr": {"choices": [0.001, 0.01, 0.1]}, "momentum": {"choices": [0.5, 0.9]}}
    cautions = summarize(one_search(0.1, space)).cautions
    assert has(cautions, "sgd: the best lr (0.1) is the largest of the values searched (0.001, 0.01 and 0.1)")
    assert has(cautions, "A set of values is not extended") and not has(cautions, "max_extensions")
    assert not has(cautions, "momentum")


def test_results_that_do_not_say_the_space_claim_no_edge():
    points = [({"lr": lr}, score) for lr, score in [(0.1, 0.8), (0.2, 0.7), (0.3, 0.9)]]
    (search,) = sweep(frames_of(runs=tune_of("sgd", points)))
    assert (search.best_trial, search.best_score, search.edges, search.space) == (2, 0.9, {}, {})
    assert search.hyperparameters == {"lr": 0.3}
    one_unsaid = [*searched("sgd", points), *searched("sgd", [({"lr": 0.05}, 0.5)], search_space=None)]
    assert sweep(frames_of(runs=one_unsaid))[0].edges == {}


def test_an_extended_sweep_is_judged_by_all_that_it_searched():
    moved = SPACE | {"lr": {"low": 1e-3, "high": 1.0, "log": True}}
    first, later = searched("sgd", [({"lr": 0.09}, 0.8)]), searched("sgd", [({"lr": 0.09}, 0.9)], moved)
    later[0] |= {"run_id": "later", "trial": 1}
    (search,) = sweep(frames_of(runs=first + later))
    assert (search.edges, search.extended) == ({}, ("lr",))
    assert (search.space["lr"]["low"], search.space["lr"]["high"]) == (1e-4, 1.0)
    summary = summarize(frames_of(runs=first + [later[0] | {"hyperparameters": '{"lr": 0.95}'}]))
    assert has(summary.costs, "Protocol of the search: 2 trials for each arm", "the sweep extended itself")
    assert has(summary.cautions, "A higher tune.max_extensions lets a sweep go on again")


def test_a_pruned_trial_is_disclosed_and_never_the_best():
    good, early, lost = searched("sgd", [({"lr": 0.01}, 0.8), ({"lr": 0.02}, None), ({"lr": 0.03}, None)])
    frames = frames_of(runs=[good, pruned(early, 0.99), lost])
    (search,) = sweep(frames)
    assert (search.best_trial, search.num_lost, search.num_pruned, search.training_s) == (0, 1, 1, 9.0)
    summary = summarize(frames)
    assert has(summary.cautions, "The pruner asha stopped trials early: sgd 1 of 3", "early loss misleads", "shorter")
    assert has(summary.costs, "asha could stop one early")
    assert has(summary.cautions, "1 of 3 tune runs diverged: sgd 1.")


def test_a_pruner_that_stopped_nothing():
    frames = frames_of(runs=searched("sgd", [({"lr": 0.01}, 0.8)], pruner="median"))
    assert has(summarize(frames).cautions, "The pruner median could stop trials early; it stopped none.")


def test_protocol_and_measured_cost_of_the_search():
    runs = searched("sgd", [({"lr": 0.01}, 0.8)] * 3) + searched("adam", [({"lr": 0.01}, 0.8)] * 2)
    costs = summarize(frames_of(runs=runs)).costs
    assert has(
        costs, "Protocol of the search: 2 to 3 trials for each arm; budget of a trial 4s; proposed by sobol; no pr"
    )
    assert has(costs, "Search, measured training time: adam 8 s in 2 trials; sgd 12 s in 3 trials.")


def test_what_tuning_bought_is_the_paired_difference_of_the_table():
    scores = {**TUNED, "b (default)": [0.92, 0.93, 0.925, 0.94], "b (transferred)": [0.90, 0.94, 0.91, 0.945]}
    costs = summarize(frames_of(runs=entries(scores))).costs
    assert has(costs, "What tuning bought (mean test accuracy, tuned minus default", "a +0.1 (resolved, p ")
    assert has(costs, "What tuning bought (", "; b −0.003")
    assert has(costs, "What the winner of another workload bought (", "transferred minus default", ": b −0.005 (not")
    assert has(costs, "What tuning here bought beyond that winner (", ": b +0.0013 (not resolved")


def test_without_defaults_nothing_is_said_of_what_tuning_bought():
    assert not has(summarize(frames_of(runs=entries({"a": [0.9, 0.91], "b": [0.8, 0.82]}))).costs, "bought")


def test_only_tuned():
    frames = frames_of(runs=searched("sgd", [({"lr": 0.01}, 0.8)]) + searched("adam", [({"lr": 0.01}, 0.9)]))
    summary = summarize(frames)
    assert summary.headline.startswith(
        "Tuned, not raced: the best trial of all is one of adam (validation accuracy 0.9)"
    )
    assert summary.winner is None and summary.results == ()
    lost = frames_of(runs=searched("sgd", [({"lr": 0.01}, None)]))
    assert summarize(lost).headline == "Tuned, not raced: no trial ran to its end."


def test_many_arms_share_their_sentences():
    summary = summarize(prepare(many()))
    assert summary.headline.endswith("noise could explain its lead over 21 arms.")
    assert len(summary.results) == 3
    assert has(summary.results, "against each of 21 other arms: not resolved")
    assert has(summary.cautions, "8 of 22 arms did not reach target 0.95")
    assert has(summary.cautions, "231 pairs of arms are tested together", "p < 0.00022")


def test_no_race_and_no_trials_is_no_tuning():
    assert summarize(prepare(TableSet())).headline == "No winner: there are no race runs yet."
