# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from orderedattrdict import AttrDict

from sqair.errors import UserError
from sqair.model import bounds
from sqair.training import settings
from sqair.training.settings import Settings


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"batch_size": 0}, "`batch_size=0` is refused: it must be at least 1"),
        ({"train_itr": 0}, "`train_itr=0"),
        ({"seq_len": -1}, "`seq_len=-1"),
        ({"learning_rate": 0.0}, "`learning_rate=0.0` is refused: it must be positive"),
        ({"eval_size_fraction": 1.5}, "`eval_size_fraction=1.5"),
        ({"opt": "sdg"}, "`opt=sdg` is refused: it must be one of rmsprop, adam, sgd"),
        ({"schedule": (4.0, -1.0)}, "`schedule="),
        ({"k_particles": 0}, "`k_particles=0"),
        ({"seed": -1}, "`seed=-1"),
        ({"warmup_itr": -1}, "`warmup_itr=-1"),
        ({"average": 1.0}, "`average=1.0` .* below 1"),
        ({"decay": "linear"}, "`decay=linear` .* steps, cosine"),
        ({"decay_from": 10, "train_itr": 10}, "`decay_from=10` .* below `train_itr=10`"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        settings.check(Settings()._replace(**changes))
    settings.check(Settings())
    assert settings.ESTIMATORS == bounds.ESTIMATORS
    settings.check(Settings(k_particles=1))  # of use where no estimator needs more


def test_flags_become_settings():
    flags = AttrDict(Settings(batch_size=7)._asdict(), schedule=["1", "2.5"], other=3)
    assert settings.from_flags(flags) == Settings(batch_size=7, schedule=(1.0, 2.5))
    del flags["average"]  # a run of an older version
    assert settings.from_flags(flags) == Settings(batch_size=7, schedule=(1.0, 2.5))
    with pytest.raises(UserError, match="`schedule=1,x` is refused: it takes numbers"):
        settings.from_flags(AttrDict(flags, schedule=["1", "x"]))
    with pytest.raises(UserError, match="`batch_size=0` is refused"):
        settings.from_flags(AttrDict(flags, batch_size=0))
