# SPDX-License-Identifier: GPL-3.0-or-later
import inspect

import pytest
from absl import flags
from orderedattrdict import AttrDict

from sqair import common_model_flags
from sqair.errors import UserError
from sqair.model.sqair import SQAIR, mlp_sqair

DEFAULTS = {
    flag.name: flag.default for flag in flags.FLAGS.flags_by_module_dict()[common_model_flags.__name__]
}


def test_defaults_are_those_of_the_model():
    """They are stated in both places; `debug` is a flag of the training, off in both."""
    parameters = inspect.signature(SQAIR.__init__).parameters
    model = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    del model["name"]
    sizes = inspect.signature(mlp_sqair).parameters
    assert {
        name: sizes[name].default for name in ("n_units", "n_what", "glimpse_size")
    }.items() <= model.items()
    arguments = common_model_flags.model_arguments(AttrDict(DEFAULTS, debug=False))
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items()} == model


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"sample_from_prior": True}, "`sample_from_prior=True` is not supported"),
        ({"scale_prior": "big"}, "`scale_prior=big` must be one number or one per axis"),
        ({"scale_prior": "1,2,3"}, "`scale_prior=1,2,3` must be"),
    ],
)
def test_what_cannot_work_is_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        common_model_flags.model_arguments(AttrDict({**DEFAULTS, "debug": False, **changes}))
