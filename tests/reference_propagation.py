# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle, part 2: propagation of the previous objects and its prior, slot by slot on R rows.

`p` is a dict of parameters by name, `f` a dict of flags. Slots are lists of `[R, ...]` arrays.
"""

import autograd.numpy as np
from reference_names import DISC, PRIOR_READOUT, PRIOR_START, PROP, PROP_START, TEMPORAL_START
from reference_parts import (
    ABSENT_LOGIT,
    affine_log_prob,
    affine_rows,
    affine_sample,
    bernoulli_log_prob,
    cat,
    diag_normal_log_prob,
    fill_triangular,
    gru,
    linear,
    mlp,
    read_glimpse,
    sigmoid,
    softplus_plus,
    stop,
    vanilla_rnn,
)


def repeat(row, n_rows):
    """A learned `[1, D]` vector for every row."""
    return np.ones((n_rows, 1)) * row


def glimpse_encoder(p, f, image, where, mask_input=None):
    """q_what: location and scale of `what` `[R, Z]`, from a glimpse at `where`."""
    glimpse = read_glimpse(image, where, f["glimpse_size"])
    glimpse = np.reshape(glimpse, (len(glimpse), -1))
    if f["masked_glimpse"] and mask_input is not None:
        glimpse = glimpse * sigmoid(mlp(p, DISC + "/air_encoder", mask_input, linear_output=True))
    hidden = mlp(p, DISC + "/encoder_1", glimpse, linear_output=False)
    return gaussian(p, DISC + "/air_encoder/gaussian_from_param_vec", hidden, f["n_what"])


def gaussian(p, name, x, n_what):
    params = linear(p, name + "/linear", x)
    return params[:, :n_what], softplus_plus(params[:, n_what:], p[name + "/min_std"])


def absent_rule(logit, presence):
    """-88 where the object (or the previous slot) is absent."""
    return presence * logit + (presence - 1.0) * ABSENT_LOGIT


def propagation_prior(p, f, previous):
    """Of one slot: presence logit `[R]`, `where` and `what` locations and scales, next prior state."""
    z = f["n_what"]
    what_tm1, where_tm1, presence_tm1 = previous["what"], previous["where"], previous["presence"]
    prior_state = gru(p, "propagation/gru_1", cat(what_tm1, where_tm1), previous["prior"])
    out = linear(p, PRIOR_READOUT[f["prop_prior_type"]], prior_state)
    logit = absent_rule(out[:, 0] + f["prop_prior_step_bias"], presence_tm1)
    where_loc, what_loc = out[:, 1:5], out[:, 5 : 5 + z]
    where_scale, what_scale = softplus_plus(out[:, 5 + z : 9 + z]), softplus_plus(out[:, 9 + z : 9 + 2 * z])
    if f["prop_prior_type"] == "rw":
        where_loc, what_loc = where_tm1, what_tm1
    elif f["prop_prior_type"] == "guided":
        where_loc, what_loc = where_tm1 + 0.1 * where_loc, what_tm1 + 0.1 * what_loc
    if f["prop_prior_type"] != "rnn":
        logit = previous["presence_logit"] + 0.1 * logit
    return dict(
        logit=logit,
        where_loc=where_loc,
        where_scale=where_scale,
        what_loc=what_loc,
        what_scale=what_scale,
        state=prior_state,
    )


def propagate_slot(p, f, image, previous, above, r_state, noise):
    """The posterior of one slot.

    `previous` is the slot's object at t-1, `above` slot n-1's at t, `r_state` the slot RNN's state and
    `noise` (eps_what, eps_where, u). Returns the object as a dict, and the RNN's state.
    """
    z = f["n_what"]
    eps_what, eps_where, u = noise
    h, what_tm1, where_tm1 = previous["temporal"], previous["what"], previous["where"]
    presence_tm1 = previous["presence"]
    # 1. a first look near the previous place
    bias = 0.1 * mlp(p, PROP + "/rnn_inpt", h, linear_output=True)
    g1, _ = glimpse_encoder(p, f, image, where_tm1 + bias, mask_input=h)
    # 2. relation to the slots before
    above_in = [above["what"], above["where"], above["presence"][:, None]]
    r_input = cat(g1, *(above_in + [what_tm1, where_tm1, presence_tm1[:, None], h]))
    r = vanilla_rnn(p, "propagation/vanilla_rnn", r_input, r_state)
    # 3. where
    out = mlp(p, PROP + "/stochastic_transform_param", cat(r, where_tm1, h), linear_output=True)
    where_loc = where_tm1 + p[PROP + "/where_update_scale"] * out[:, :4]
    offset = p[PROP + "/stochastic_transform_param/scale_offset"]
    where_scale = softplus_plus(out[:, 4:] + offset - 1.0)
    rows = affine_rows(where_scale, fill_triangular(p[PROP + "/affine_diag_normal/cholesky_scale"]))
    where = affine_sample(where_loc, rows, eps_where)
    # 4. what
    l2, s2 = glimpse_encoder(p, f, image, where, mask_input=h)
    temporal = gru(p, "propagation/gru", cat(r, where, l2, s2), h)
    lt, st = gaussian(p, PROP + "/what/gaussian_from_param_vec", temporal, z)
    gates = 0.9999 * sigmoid(linear(p, PROP + "/what/linear", temporal))
    forget, inp, exp = gates[:, :z], gates[:, z : 2 * z], gates[:, 2 * z :]
    what_loc = forget * what_tm1 + (1.0 - inp) * l2 + (1.0 - exp) * lt
    what_scale = (1.0 - inp) * s2 + (1.0 - exp) * st
    what = what_loc + what_scale * eps_what
    # 5. presence
    logit = mlp(p, PROP + "/steps_predictor", cat(r, h, what), linear_output=True)[:, 0]
    logit = absent_rule(logit, presence_tm1)
    presence = stop(u < sigmoid(logit)) * presence_tm1
    new = dict(what=what, what_loc=what_loc, what_scale=what_scale)
    new.update(where=where, where_loc=where_loc, where_scale=where_scale)
    new.update(presence=presence, presence_logit=logit, presence_prob=sigmoid(logit))
    new.update(temporal=temporal, obj_id=np.where(presence == 1, previous["obj_id"], -1))
    new.update(
        what_log_prob=presence * diag_normal_log_prob(what, what_loc, what_scale),
        where_log_prob=presence * affine_log_prob(where, where_loc, rows),
        presence_log_prob=presence_tm1 * bernoulli_log_prob(presence, logit),
        prop_prob=np.exp(bernoulli_log_prob(presence, logit)) * presence_tm1,
    )
    return new, r


def add_propagation_prior(p, f, previous, new):
    """Puts the prior state, presence logit and log-probabilities of one propagated slot into `new`."""
    presence, presence_tm1 = new["presence"], previous["presence"]
    prior = propagation_prior(p, f, previous)
    new.update(prior=prior["state"], prior_logit=prior["logit"])
    log_p_what = diag_normal_log_prob(new["what"], prior["what_loc"], prior["what_scale"])
    log_p_where = diag_normal_log_prob(new["where"], prior["where_loc"], prior["where_scale"])
    new.update(
        what_prior_log_prob=presence * log_p_what,
        where_prior_log_prob=presence * log_p_where,
        presence_prior_log_prob=presence_tm1 * bernoulli_log_prob(presence, prior["logit"]),
    )


def propagate(p, f, image, objects, noise):
    n_rows = len(image)
    above = empty_object(p, f, n_rows)
    r = repeat(p[PROP_START], n_rows)
    new = []
    for n, previous in enumerate(objects):
        slot_noise = [noise[kind + "_prop"][:, n] for kind in ("eps_what", "eps_where", "u_presence")]
        above, r = propagate_slot(p, f, image, previous, above, r, slot_noise)
        add_propagation_prior(p, f, previous, above)
        new.append(above)
    return new


def empty_object(p, f, n_rows):
    """What a slot holds before the first frame."""
    zero = np.zeros(n_rows)
    return dict(
        what=np.zeros((n_rows, f["n_what"])),
        where=np.zeros((n_rows, 4)),
        presence=zero,
        presence_logit=zero,
        temporal=repeat(p[TEMPORAL_START], n_rows),
        prior=repeat(p[PRIOR_START], n_rows),
        obj_id=zero - 1,
    )
