# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variable of the authors' release is which of ours: total and one-to-one."""

_CORES = {
    "VanillaRNN": {
        "/in_to_hidden/w": "/in_to_hidden/w",
        "/in_to_hidden/b": "/in_to_hidden/b",
        "/hidden_to_hidden/w": "/hidden_to_hidden/w",
        "/hidden_to_hidden/b": "/hidden_to_hidden/b",
    },
    "GRU": {"/" + kind + gate: "/" + kind + gate for kind in "wub" for gate in "zrh"},
}

_DISC, _PROP = "discovery/discovery_core", "propagation/propagation_core"
_PRIOR_MODULES = {
    "rnn": "propagate_prior",
    "rw": "random_walk_propagate_prior",
    "guided": "guided_walk_propagate_prior",
}


def _linear(reference, ours):
    return {reference + part: ours + part for part in ("/w", "/b")}


def _mlp(reference, ours, n_hidden, has_output=True):
    """Layers are `linear`, `linear_1`, ... there and `hidden_0`, ..., `output` here."""
    layers = ["/hidden_{}".format(i) for i in range(n_hidden)] + ["/output"] * has_output
    names = {}
    for i, layer in enumerate(layers):
        names.update(_linear(reference + "/mlp/linear" + ("_{}".format(i) if i else ""), ours + layer))
    return names


def _core(reference, ours, kind):
    return {reference + theirs: ours + name for theirs, name in _CORES[kind].items()}


def reference_to_ours(
    masked_glimpse=True, rec_where_prior=True, disc_prior_type="cat", prop_prior_type="rnn"
):
    """The map for a model built with these flags and the default cores.

    Variables of parts that a flag switches off do not exist.

    Returns:
        dict of the release's variable name to ours.
    """
    names = {}
    names.update(_decoder())
    names.update(_encoders(masked_glimpse))
    names.update(_discovery(rec_where_prior, disc_prior_type))
    names.update(_propagation(prop_prior_type))
    names = {reference: "sqair/" + ours for reference, ours in names.items()}
    names.update(_networks())
    return names


def _networks():
    """What is passed into the model has names of its own."""
    names = _mlp(_DISC + "/encoder", "image_encoder", 2, has_output=False)
    names.update(_mlp(_DISC + "/encoder_1", "glimpse_encoder", 2, has_output=False))
    names.update(_mlp("decoder/air_decoder/decoder", "glimpse_decoder/mlp", 2))
    return names


def _decoder():
    return {
        "decoder/air_decoder/Variable": "decoder/mean_image",
        "decoder/air_decoder/decoder/output_scale": "decoder/output_scale",
        "decoder/air_decoder/output_std": "decoder/output_std_root",
        "decoder/air_decoder/background_std": "decoder/background_std_root",
    }


def _encoders(masked_glimpse):
    names = {_DISC + "/air_encoder/gaussian_from_param_vec/min_std": "glimpse_encoder/min_scale"}
    names.update(_linear(_DISC + "/air_encoder/gaussian_from_param_vec/linear", "glimpse_encoder/statistics"))
    if masked_glimpse:
        names.update(_mlp(_DISC + "/air_encoder", "glimpse_encoder/mask", 1))
    return names


def _discovery(rec_where_prior, disc_prior_type):
    names = {
        "discovery/discover/discovery/vanilla_rnn_initial_state_0/w": "discovery/start",
        _DISC + "/stochastic_transform_param/scale_offset": "discovery_core/where_statistics/scale_offset",
    }
    names.update(_core("discovery/vanilla_rnn", "discovery_core/transition", "VanillaRNN"))
    names.update(_mlp(_DISC + "/stochastic_transform_param", "discovery_core/where_statistics/mlp", 2))
    names.update(_mlp(_DISC + "/steps_predictor", "discovery_core/presence", 1))
    if rec_where_prior:
        theirs, ours = "discovery/discover/recurrent_normal_impl", "discovery_prior/autoregressive_normal"
        names[theirs + "/init_sample"] = ours + "/first_where"
        names[theirs + "/" + theirs + "/vanilla_rnn_initial_state_0/w"] = ours + "/start"
        names.update(_linear(theirs + "/linear_1", ours + "/context"))
        names.update(_linear(theirs + "/vanilla_rnn/in_to_hidden", ours + "/where_to_hidden"))
        names.update(_linear(theirs + "/vanilla_rnn/hidden_to_hidden", ours + "/context_to_hidden"))
        names.update(_linear(theirs + "/linear", ours + "/readout"))
    if disc_prior_type == "cat":
        step_prior = "model/sequential_air/while/sqair_timestep/discover/step_prior"
        names[step_prior + "_bias"] = "discovery_prior/count_bias"
        names[step_prior + "_timestep_bias"] = "discovery_prior/count_later_bias"
        names.update(_mlp("discovery/discover", "discovery_prior/count", 1))
    return names


def _propagation(prop_prior_type):
    names = {
        _PROP + "/stochastic_transform_param/scale_offset": "propagation_core/where_statistics/scale_offset",
        _PROP
        + "/affine_diag_normal/cholesky_scale": "propagation_core/affine_diagonal_normal/cholesky_scale",
        _PROP + "/where_update_scale": "propagation_core/where_update_scale",
        _PROP + "/what/gaussian_from_param_vec/min_std": "propagation_core/what_min_scale",
        "propagation/sequential_ssm/propagation/vanilla_rnn_initial_state_0/w": "propagation/start",
        "sequence/sequential_air/propagation/gru_initial_state_0/w": "sqair_cell/temporal_start",
        "sequence/sequential_air/propagation/gru_1_initial_state_0/w": "sqair_cell/prior_start",
    }
    names.update(
        _mlp("sequence/sequential_air/sqair_timestep", "sqair_cell/object_summary", 2, has_output=False)
    )
    names.update(_mlp(_PROP + "/rnn_inpt", "propagation_core/glimpse_shift", 1))
    names.update(_core("propagation/vanilla_rnn", "propagation_core/transition", "VanillaRNN"))
    names.update(_mlp(_PROP + "/stochastic_transform_param", "propagation_core/where_statistics/mlp", 2))
    names.update(_linear(_PROP + "/what/linear", "propagation_core/what_gates"))
    names.update(_linear(_PROP + "/what/gaussian_from_param_vec/linear", "propagation_core/what_statistics"))
    names.update(_mlp(_PROP + "/steps_predictor", "propagation_core/presence", 1))
    names.update(_core("propagation/gru", "propagation_core/temporal", "GRU"))
    names.update(_core("propagation/gru_1", "propagation_prior/core", "GRU"))
    prior = _PRIOR_MODULES[prop_prior_type]
    names.update(_linear("propagation/" + prior + "/linear", "propagation_prior/readout"))
    return names
