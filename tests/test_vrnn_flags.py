# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags of the VRNNs, and the configs that use them."""

import numpy as np
import pytest
from absl import flags
from orderedattrdict import AttrDict

from sqair import vrnn_flags
from sqair.baselines.image_networks import ConvImageDecoder, MLPImageDecoder
from sqair.baselines.vrnn import VRNN
from sqair.configs import conv_vrnn_model, mlp_vrnn_model
from sqair.graph_mode import tf
from sqair.model.noise import draw


def values(**changes):
    own = flags.FLAGS.flags_by_module_dict()[vrnn_flags.__name__]
    return AttrDict({flag.name: flag.default for flag in own}, debug=False, **changes)


def test_defaults_are_the_sizes_of_the_paper():
    arguments = vrnn_flags.model_arguments(values())
    assert arguments.pop("streams") in (1, 2)
    assert arguments == dict(hidden_size=512, n_layers=3, n_latent=165, resample_below=0.5, debug=False)


@pytest.mark.parametrize(
    "config, decoder, below, bound",
    [(mlp_vrnn_model, MLPImageDecoder, 0.5, "fivo"), (conv_vrnn_model, ConvImageDecoder, 0.0, "iwae")],
    ids=["mlp", "conv"],
)
def test_a_config_builds_the_model_that_the_flags_describe(config, decoder, below, bound):
    changed = values()
    changed.update(hidden_size=6, n_layers=1, n_latent=4, resample_below=below)
    model = config.load(changed, np.zeros([9, 8, 1], np.float32))
    assert isinstance(model, VRNN) and (model.n_steps, model.bound.name) == (0, bound)
    outputs = model(tf.zeros([3, 2, 9, 8, 1]), draw(0, 0, "train", 3, 2, 2, model.noise))
    assert outputs.steps.latents.shape.as_list() == [None, 4, 4]
    names = {v.op.name.split("/")[0] for v in tf.trainable_variables()}
    assert names == {"vrnn", "image_encoder", "image_decoder"}
