# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the original's variables, as the oracle uses them."""

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
