# SPDX-License-Identifier: GPL-3.0-or-later
from orderedattrdict import AttrDict

from sqair import run_flags


def test_what_is_not_given_changes_nothing():
    none = AttrDict(data=None, data_config=None, model_config=None)
    assert run_flags.changes_of(none, k_particles=None) == {}
    given = AttrDict(data="set", data_config=None, model_config="mine.py")
    wanted = {"data_dir": "set", "model_config": "mine.py", "k_particles": 7}
    assert run_flags.changes_of(given, k_particles=7, batch_size=None) == wanted
