# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from absl import flags
from orderedattrdict import AttrDict

from sqair import common_model_flags
from sqair.configs import conv_mnist_model
from sqair.graph_mode import tf
from sqair.model.sqair import SQAIR


def test_it_builds_the_model_that_the_flags_describe():
    own = flags.FLAGS.flags_by_module_dict()[common_model_flags.__name__]
    values = AttrDict({flag.name: flag.default for flag in own}, debug=False)
    values.update(n_steps_per_image=2, n_what=4, n_units=1)
    model = conv_mnist_model.load(values, np.zeros([9, 8, 1], np.float32))
    assert isinstance(model, SQAIR) and model.noise.discovery.what.shape == (2, 4)
    assert "glimpse_encoder/convolution_0/w" in [v.op.name for v in tf.global_variables()]
