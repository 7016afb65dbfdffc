from dataclasses import replace

import pytest

from suite.config import Budget
from suite.errors import UsageError
from suite.override import override
from tests.suite.test_study import make_study

OVERRIDES = [
    ("race.seeds=4,5", lambda study: study.race.seeds, (4, 5)),
    ("race.budget=2min", lambda study: study.race.budget, Budget(kind="wall_clock", amount=120)),
    ("race.num_workers=1", lambda study: study.race.num_workers, 1),
    ("tune.num_trials=7", lambda study: study.tune.num_trials, 7),
    ("tune.sampler=gp", lambda study: study.tune.sampler, "gp"),
    ("tune.budget.amount=9", lambda study: study.tune.budget.amount, 9),
    ("schedule.warmup_frac=0.1", lambda study: study.schedule.warmup_frac, 0.1),
    ("batch_size=32", lambda study: study.batch_size, 32),
    ("splits=standard", lambda study: study.splits, "standard"),
    ("stop_at_target=TRUE", lambda study: study.stop_at_target, True),
    ("sync_batchnorm=false", lambda study: study.sync_batchnorm, False),
    ("question=a=b", lambda study: study.question, "a=b"),
    ("arms=fisher", lambda study: [arm.optimizer for arm in study.arms], ["adafisher"]),
    ("arms=fisher, adam", lambda study: [arm.name for arm in study.arms], ["fisher", "adam"]),
    ("batch_size", UsageError, "field=value"),
    ("batch_sise=32", UsageError, "unknown field 'batch_sise'; known: answers, arms, batch_size"),
    ("=32", UsageError, "unknown field"),
    ("paper=1", UsageError, "unknown field 'paper'"),
    ("batch_size=many", UsageError, "'batch_size' is a int, but got 'many'"),
    ("batch_size=1.5", UsageError, "'batch_size'"),
    ("batch_size.x=1", UsageError, "has no parts"),
    ("stop_at_target=yes", UsageError, "'stop_at_target' is a bool, but got 'yes'"),
    ("tune=sobol", UsageError, "as a whole"),
    ("schedule=cosine", UsageError, "as a whole"),
    ("tune.num_trials=0", UsageError, "num_trials must be >= 1"),
    ("tune.trials=3", UsageError, "unknown field 'trials'; known: budget"),
    ("tune.sampler=best", UsageError, "unknown sampler"),
    ("tune.pruner=asha", lambda study: study.tune.pruner, "asha"),
    ("tune.space=paper-cnn", lambda study: study.tune.space, "paper-cnn"),
    ("tune.transfer_from=iris", lambda study: study.tune.transfer_from, "iris"),
    ("race.sources=winner, default", lambda study: study.race.sources, ("winner", "default")),
    ("race.sources=best", UsageError, "unknown source 'best'; known: default, transferred, winner"),
    ("race.sources=transferred", UsageError, "tune.transfer_from"),
    ("tune.gpus_per_worker=0.5", lambda study: study.tune.gpus_per_worker, 0.5),
    ("tune.budget=soon", UsageError, "a budget reads like"),
    ("tune.budget.kind=hours", UsageError, "budget kind"),
    ("race.seeds=0,1", UsageError, "fresh"),
    ("race.seeds=", UsageError, "'seeds'"),
    ("race.seeds=one", UsageError, "'seeds'"),
    ("schedule.warmup_frac=2", UsageError, "warmup_frac"),
    ("arms=kfacc", UsageError, "unknown arm 'kfacc'; known: adafactor, adafisher"),
    ("arms=sgd,sgd", UsageError, "different names"),
    ("arms=", UsageError, "unknown arm"),
]


@pytest.mark.parametrize(("assignment", "look", "expected"), OVERRIDES, ids=[text for text, *_ in OVERRIDES])
def test_overrides(assignment, look, expected):
    if look is UsageError:
        with pytest.raises(UsageError, match=expected):
            override(make_study(), assignment)
    else:
        assert look(override(make_study(), assignment)) == expected


def test_an_override_leaves_the_study_and_the_rest_as_they_are():
    study = make_study()
    changed = override(study, "tune.num_trials=7")
    assert study == make_study()
    assert replace(changed, tune=replace(changed.tune, num_trials=3)) == study


def test_a_part_that_the_study_lacks_cannot_be_set():
    with pytest.raises(UsageError, match="'race' has no parts"):
        override(make_study(race=None), "race.seeds=1")
