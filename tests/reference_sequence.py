# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle, part 4: keeping the present objects, the decoder, one time-step, the sequence."""

import autograd.numpy as np
from reference_bounds import elbo, ess, importance_weights, iwae, iwae_per_example, loss
from reference_discovery import discover
from reference_names import CONDITIONING, DECODER
from reference_parts import cat, mlp, normal_log_prob, sigmoid, stop, write_glimpse
from reference_propagation import empty_object, propagate

KEPT = (
    "what what_loc what_scale where where_loc where_scale presence presence_logit presence_prob "
    "temporal prior obj_id".split()
)
NOISE = [kind + "_" + phase for phase in ("prop", "disc") for kind in ("eps_what", "eps_where", "u_presence")]


def keep_present(objects, n_steps):
    """The first `n_steps` of 2N slots, present ones first; otherwise the order is kept."""
    presence = np.stack([stop(o["presence"]) for o in objects], -1)
    rows = np.arange(len(presence))
    order = np.argsort(-presence, -1, kind="stable")
    kept = [{} for _ in range(n_steps)]
    for name in KEPT:
        stacked = np.stack([o[name] for o in objects], 1)
        for n in range(n_steps):
            kept[n][name] = stacked[rows, order[:, n]]
    return kept


def decode(p, f, objects, height, width):
    """Returns glimpses (list of `[R, g, g]`), canvas and standard deviation, both `[R, H, W]`."""
    size = f["glimpse_size"]
    glimpses = []
    canvas, mask = 0.0, 0.0
    for o in objects:
        glimpse = np.reshape(mlp(p, DECODER + "/decoder", o["what"], linear_output=True), (-1, size, size))
        glimpse = p[DECODER + "/decoder/output_scale"] * glimpse
        presence = o["presence"][:, None, None]
        canvas = canvas + presence * write_glimpse(glimpse, o["where"], height, width)
        mask = mask + presence * write_glimpse(np.ones_like(stop(glimpse)), o["where"], height, width)
        glimpses.append(glimpse)
    mask = sigmoid(20.0 * mask - 10.0)
    canvas = canvas + mask * p[DECODER + "/Variable"][:, :, 0]
    # the stored numbers are square roots
    std = mask * p[DECODER + "/output_std"] ** 2 + (1.0 - mask) * p[DECODER + "/background_std"] ** 2
    return glimpses, canvas, std


def slots(objects, name):
    """`[R, N, ...]` of one field of a list of slots."""
    return np.stack([o[name] for o in objects], 1)


def total(objects, name):
    return sum(o[name] for o in objects)


def step(p, f, image, noise, state, first_frame):
    """One frame. `state` is (list of N objects, last id `[R]`); returns outputs and the next state."""
    objects, last_id = state
    n_steps = f["n_steps_per_image"]
    propagated = propagate(p, f, image, objects, noise)
    e_prop = 0.0
    for o in propagated:
        code = mlp(p, CONDITIONING, cat(o["what"], o["where"]), linear_output=False)
        e_prop = e_prop + o["presence"][:, None] * code
    m = sum(sigmoid(o["prior_logit"]) - 0.5 for o in propagated) / n_steps
    discovered, disc_prob, disc_log_q, disc_log_p, last_id = discover(
        p, f, image, e_prop, m, first_frame, last_id, noise
    )
    kept = keep_present(propagated + discovered, n_steps)
    glimpses, canvas, std = decode(p, f, kept, *image.shape[1:])
    out = {name: slots(kept, name) for name in KEPT if name not in ("temporal", "prior")}
    out.update(glimpse=np.stack(glimpses, 1), canvas=canvas, disc_prob=disc_prob)
    out.update(log_probs(propagated, discovered, disc_log_q, disc_log_p))
    out["data_ll_per_sample"] = np.sum(normal_log_prob(image, canvas, std), (1, 2))
    out["log_weights_per_timestep"] = out["data_ll_per_sample"] - out["kl_per_sample"]
    out["num_steps_per_sample"] = np.sum(out["presence"], -1)
    out["num_prop_steps_per_sample"] = np.sum(out["prop_pres"], -1)
    out["num_disc_steps_per_sample"] = np.sum(out["disc_pres"], -1)
    out["squared_error"] = np.mean((image - canvas) ** 2, (1, 2))
    return out, (kept, last_id)


def log_probs(propagated, discovered, disc_log_q, disc_log_p):
    """log q and log p of a frame, in parts and in sum."""
    out = dict(disc_log_prob=disc_log_q, disc_prior_log_prob=disc_log_p)
    out["prop_prob"] = slots(propagated, "prop_prob")
    for phase, phase_objects in (("prop", propagated), ("disc", discovered)):
        out[phase + "_pres"] = slots(phase_objects, "presence")
        out[phase + "_slot_prob"] = slots(phase_objects, "presence_prob")
        for part in ("what", "where"):
            out["%s_%s_log_prob" % (phase, part)] = slots(phase_objects, part + "_log_prob")
            out["%s_%s_prior_log_prob" % (phase, part)] = slots(phase_objects, part + "_prior_log_prob")
    out["prop_log_prob"] = total(propagated, "presence_log_prob")
    out["prop_prior_log_prob"] = total(propagated, "presence_prior_log_prob")
    out["step_log_prob"] = out["discrete_log_prob"] = out["disc_log_prob"] + out["prop_log_prob"]
    log_q, log_p = 0.0, 0.0
    for phase in ("prop", "disc"):
        log_q = log_q + out[phase + "_log_prob"]
        log_p = log_p + out[phase + "_prior_log_prob"]
        for part in ("what", "where"):
            log_q = log_q + np.sum(out["%s_%s_log_prob" % (phase, part)], -1)
            log_p = log_p + np.sum(out["%s_%s_prior_log_prob" % (phase, part)], -1)
    out.update(log_q_z_given_x_per_sample=log_q, log_p_z_per_sample=log_p, kl_per_sample=log_q - log_p)
    return out


def sequence(p, f, inputs, estimator="reference", l2=0.0, trainable=()):
    """All frames and the loss. Returns a dict of outputs as a golden case names them.

    `inputs` has imgs `[T, B, H, W]` (0 to 255), nums `[1, B, M + 1]` and the noise `[T, R, N, ...]`.
    """
    k = f["k_particles"]
    images = np.repeat(inputs["imgs"] / 255.0, k, axis=1)  # row b * K + k
    seq_len, n_rows = images.shape[:2]
    state = ([empty_object(p, f, n_rows) for _ in range(f["n_steps_per_image"])], -np.ones(n_rows))
    frames = []
    for t in range(seq_len):
        noise = {name: inputs[name][t] for name in NOISE}
        out, state = step(p, f, images[t], noise, state, first_frame=t == 0)
        frames.append(out)
    out = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    out["mse_per_sample"] = np.mean(out.pop("squared_error"), 0)

    log_weights = np.reshape(np.sum(out["log_weights_per_timestep"], 0), (-1, k))
    discrete_log_q = np.reshape(np.sum(out["discrete_log_prob"], 0), (-1, k))
    out.update(bound_outputs(log_weights, discrete_log_q, seq_len, estimator))
    for name in trainable:
        out["target"] = out["target"] + l2 * np.sum(p[name] ** 2) / 2.0

    def weighted(x):
        """Mean over T and B, weighted over particles, of `[T, R]`."""
        x = np.reshape(x, (-1,) + log_weights.shape)
        return np.mean(np.sum(x * out["importance_weights"], -1))

    names = "data_ll kl log_p_z log_q_z_given_x num_steps num_disc_steps num_prop_steps".split()
    out.update({name: weighted(out[name + "_per_sample"]) for name in names})
    true_count = np.repeat(np.sum(inputs["nums"], -1), k, axis=1)
    out["num_step_accuracy"] = weighted(np.equal(out["num_steps_per_sample"], true_count))
    out["mse"], out["raw_mse"] = weighted(out["mse_per_sample"]), np.mean(out["mse_per_sample"])
    return out


def bound_outputs(log_weights, discrete_log_q, seq_len, estimator):
    return dict(
        log_weights=log_weights,
        importance_weights=importance_weights(log_weights),
        elbo_vae=elbo(log_weights),
        elbo_iwae=iwae(log_weights),
        elbo_iwae_per_example=iwae_per_example(log_weights),
        ess=ess(log_weights),
        target=loss(estimator, log_weights, discrete_log_q, seq_len),
    )
