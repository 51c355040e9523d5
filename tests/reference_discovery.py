# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle, part 3: discovery of new objects and its priors, slot by slot on R rows."""

import autograd.numpy as np
from reference_names import (
    DISC,
    DISC_START,
    NUM_PRIOR,
    PRIOR_START,
    TEMPORAL_START,
    WHERE_PRIOR,
    WHERE_PRIOR_START,
)
from reference_parts import (
    cat,
    diag_normal_log_prob,
    elu,
    linear,
    mlp,
    num_steps_probs,
    sigmoid,
    softplus_plus,
    stop,
    straight_through_clip,
    vanilla_rnn,
)
from reference_propagation import absent_rule, empty_object, glimpse_encoder, repeat


def scale_prior(f):
    """Means of the scale logits' prior, (x, y): the flag is one number or two."""
    values = [float(v) for v in str(f["scale_prior"]).split(",")]
    return values * 2 if len(values) == 1 else values


def discover_slot(p, f, image, image_code, e_prop, above, r_state, noise):
    """The posterior of one newly discovered object; `above` is slot n-1, see `propagate_slot`."""
    n_rows = len(image)
    eps_what, eps_where, u = noise
    r_input = cat(image_code, e_prop, above["what"], above["where"], above["presence"][:, None])
    r = vanilla_rnn(p, "discovery/vanilla_rnn", r_input, r_state)
    out = mlp(p, DISC + "/stochastic_transform_param", r, linear_output=True)
    where_loc = out[:, :4]
    where_scale = softplus_plus(out[:, 4:] + p[DISC + "/stochastic_transform_param/scale_offset"])
    where = where_loc + where_scale * eps_where
    what_loc, what_scale = glimpse_encoder(p, f, image, where)
    what = what_loc + what_scale * eps_what
    logit = mlp(p, DISC + "/steps_predictor", cat(r, what), linear_output=True)[:, 0]
    logit = absent_rule(logit, above["presence"])
    presence = stop(u < sigmoid(logit)) * above["presence"]
    new = dict(what=what, what_loc=what_loc, what_scale=what_scale)
    new.update(where=where, where_loc=where_loc, where_scale=where_scale)
    new.update(presence=presence, presence_logit=logit, presence_prob=sigmoid(logit))
    new.update(temporal=repeat(p[TEMPORAL_START], n_rows), prior=repeat(p[PRIOR_START], n_rows))
    new.update(
        what_log_prob=presence * diag_normal_log_prob(what, what_loc, what_scale),
        what_prior_log_prob=presence * diag_normal_log_prob(what, 0.0, np.ones_like(stop(what))),
        where_log_prob=presence * diag_normal_log_prob(where, where_loc, where_scale),
    )
    return new, r


def discover(p, f, image, e_prop, m, first_frame, last_id, noise):
    """Returns N objects, count probabilities `[R, N + 1]`, log q(num), log p(num) and last id (`[R]`)."""
    n_rows = len(image)
    image_code = mlp(p, DISC + "/encoder", np.reshape(image, (n_rows, -1)), linear_output=False)
    above = empty_object(p, f, n_rows)
    above["presence"] = np.ones(n_rows)
    r = repeat(p[DISC_START], n_rows)
    objects = []
    for n in range(f["n_steps_per_image"]):
        slot_noise = [noise[kind + "_disc"][:, n] for kind in ("eps_what", "eps_where", "u_presence")]
        above, r = discover_slot(p, f, image, image_code, e_prop, above, r, slot_noise)
        last_id = last_id + above["presence"]
        above["obj_id"] = np.where(above["presence"] == 1, last_id, -1)
        objects.append(above)
    where_priors = discovery_where_prior(p, f, [o["where"] for o in objects], e_prop, m)
    for o, (loc, scale) in zip(objects, where_priors):
        o["where_prior_log_prob"] = o["presence"] * diag_normal_log_prob(o["where"], loc, scale)
    count = sum(o["presence"] for o in objects).astype(int)
    count_probs = num_steps_probs(np.stack([o["presence_prob"] for o in objects], -1))
    log_q = np.log(straight_through_clip(count_probs[np.arange(n_rows), count], 1e-16, 1.0))
    return objects, count_probs, log_q, discovery_count_log_prior(p, f, count, m, first_frame), last_id


def discovery_where_prior(p, f, where, e_prop, m):
    """Location and scale for every slot; `where` is the list of the posterior's samples."""
    n_rows = len(m)
    if not f["rec_where_prior"]:
        loc = np.array(scale_prior(f) + [0.0, 0.0])
        return [(loc, np.ones(4))] * len(where)
    s0 = repeat(p[WHERE_PRIOR_START], n_rows)
    c = elu(linear(p, WHERE_PRIOR + "/linear_1", cat(s0, e_prop, m[:, None])))
    out = []
    for where_nm1 in [repeat(p[WHERE_PRIOR + "/init_sample"], n_rows)] + where[:-1]:
        o = vanilla_rnn(p, WHERE_PRIOR + "/vanilla_rnn", where_nm1, c)
        params = linear(p, WHERE_PRIOR + "/linear", o)
        out.append((params[:, :4], softplus_plus(params[:, 4:])))
    return out


def discovery_count_log_prior(p, f, count, m, first_frame):
    if f["disc_prior_type"] == "geom":
        s = f["step_success_prob"]
        return count * np.log(s) + np.log(1.0 - s)
    logits = p[NUM_PRIOR + "step_prior_bias"] + mlp(p, "discovery/discover", m[:, None], linear_output=True)
    if not first_frame:
        logits = logits + p[NUM_PRIOR + "step_prior_timestep_bias"]
    logits = elu(logits)
    log_p = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    return log_p[np.arange(len(count)), count]
