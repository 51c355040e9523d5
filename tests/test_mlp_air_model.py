# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from absl import flags
from orderedattrdict import AttrDict

from sqair import common_model_flags
from sqair.baselines.air import AIR
from sqair.configs import mlp_air_model
from sqair.errors import UserError


def load(**changes):
    own = flags.FLAGS.flags_by_module_dict()[common_model_flags.__name__]
    values = AttrDict({flag.name: flag.default for flag in own}, debug=False)
    values.update(changes)
    return mlp_air_model.load(values, np.zeros([9, 8, 1], np.float32))


def test_it_builds_the_model_that_the_flags_describe():
    model = load(n_steps_per_image=2, n_what=4, n_units=1)
    assert isinstance(model, AIR) and model.n_steps == 2 and model.noise.what.shape == (2, 4)


@pytest.mark.parametrize(
    "flag, value", [("prop_prior_type", "rw"), ("prop_step_bias", 3.0), ("masked_glimpse", False)]
)
def test_flags_of_propagation_are_refused(flag, value):
    with pytest.raises(UserError, match=f"`{flag}={value}` is refused: this model propagates nothing"):
        load(**{flag: value})
