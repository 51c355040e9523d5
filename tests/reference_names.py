# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the original's variables, as the oracle uses them, and their shapes."""

from collections import OrderedDict

DISC = "discovery/discovery_core"
PROP = "propagation/propagation_core"
DECODER = "decoder/air_decoder"
CONDITIONING = "sequence/sequential_air/sqair_timestep"  # the MLP inside e_prop
NUM_PRIOR = "model/sequential_air/while/sqair_timestep/discover/"
WHERE_PRIOR = "discovery/discover/recurrent_normal_impl"
PRIOR_READOUT = {
    "rnn": "propagation/propagate_prior/linear",
    "rw": "propagation/random_walk_propagate_prior/linear",
    "guided": "propagation/guided_walk_propagate_prior/linear",
}
# Initial states: slot RNNs, the temporal GRU, the GRU of the propagation prior, s0 of the `where` prior.
DISC_START = "discovery/discover/discovery/vanilla_rnn_initial_state_0/w"
PROP_START = "propagation/sequential_ssm/propagation/vanilla_rnn_initial_state_0/w"
TEMPORAL_START = "sequence/sequential_air/propagation/gru_initial_state_0/w"
PRIOR_START = "sequence/sequential_air/propagation/gru_1_initial_state_0/w"
WHERE_PRIOR_START = WHERE_PRIOR + "/discovery/discover/recurrent_normal_impl/vanilla_rnn_initial_state_0/w"

FIXED = ("/min_std", "/output_std", "/background_std", "/where_update_scale")


def is_trainable(name):
    return not name.endswith(FIXED)


def variable_shapes(flags, image_shape):
    """Names and shapes of all variables of the original under these flags, sorted."""
    d, z, n, g = 32 * flags["n_units"], flags["n_what"], flags["n_steps_per_image"], flags["glimpse_size"]
    height, width = image_shape
    shapes = {
        DECODER + "/Variable": (height, width, 1),
        DECODER + "/background_std": (),
        DECODER + "/output_std": (),
        DECODER + "/decoder/output_scale": (),
        DISC + "/air_encoder/gaussian_from_param_vec/min_std": (),
        DISC + "/stochastic_transform_param/scale_offset": (),
        PROP + "/what/gaussian_from_param_vec/min_std": (),
        PROP + "/stochastic_transform_param/scale_offset": (),
        PROP + "/where_update_scale": (),
        PROP + "/affine_diag_normal/cholesky_scale": (10,),
        DISC_START: (1, d),
        PROP_START: (1, d),
        TEMPORAL_START: (1, d),
        PRIOR_START: (1, d),
    }

    def linear(name, n_in, n_out):
        shapes[name + "/w"], shapes[name + "/b"] = (n_in, n_out), (n_out,)

    def mlp(name, *sizes):
        for i in range(len(sizes) - 1):
            linear(name + "/mlp/linear" + ("_%d" % i if i else ""), sizes[i], sizes[i + 1])

    def vanilla_rnn(name, n_in, n_state, n_out):
        linear(name + "/in_to_hidden", n_in, n_out)
        linear(name + "/hidden_to_hidden", n_state, n_out)

    def gru(name, n_in):
        for gate in "zrh":
            shapes.update(
                {name + "/w" + gate: (n_in, d), name + "/u" + gate: (d, d), name + "/b" + gate: (d,)}
            )

    mlp(DECODER + "/decoder", z, d, d, g * g)
    mlp(DISC + "/encoder", height * width, d, d)
    mlp(DISC + "/encoder_1", g * g, d, d)
    linear(DISC + "/air_encoder/gaussian_from_param_vec/linear", d, 2 * z)
    if flags["masked_glimpse"]:
        mlp(DISC + "/air_encoder", d, 128, g * g)
    mlp(DISC + "/steps_predictor", d + z, d // 2, 1)
    mlp(DISC + "/stochastic_transform_param", d, d, d, 8)
    vanilla_rnn("discovery/vanilla_rnn", d + d + z + 4 + 1, d, d)
    if flags["rec_where_prior"]:
        linear(WHERE_PRIOR + "/linear_1", 4 + d + 1, 128)
        vanilla_rnn(WHERE_PRIOR + "/vanilla_rnn", 4, 128, 4)
        linear(WHERE_PRIOR + "/linear", 4, 8)
        shapes[WHERE_PRIOR + "/init_sample"] = shapes[WHERE_PRIOR_START] = (1, 4)
    if flags["disc_prior_type"] == "cat":
        mlp("discovery/discover", 1, 10, n + 1)
        shapes[NUM_PRIOR + "step_prior_bias"] = shapes[NUM_PRIOR + "step_prior_timestep_bias"] = (n + 1,)
    mlp(PROP + "/rnn_inpt", d, 128, 4)
    mlp(PROP + "/steps_predictor", 2 * d + z, d // 2, 1)
    mlp(PROP + "/stochastic_transform_param", 2 * d + 4, d, d, 8)
    linear(PROP + "/what/gaussian_from_param_vec/linear", d, 2 * z)
    linear(PROP + "/what/linear", d, 3 * z)
    vanilla_rnn("propagation/vanilla_rnn", z + 2 * (z + 4 + 1) + d, d, d)
    gru("propagation/gru", d + 4 + 2 * z)
    gru("propagation/gru_1", z + 4)
    linear(PRIOR_READOUT[flags["prop_prior_type"]], d, 1 + 2 * (4 + z))
    mlp(CONDITIONING, z + 4, d, d)
    return OrderedDict(sorted(shapes.items()))
