# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle, part 5: generation from the prior, slot by slot on R rows, new objects counted row by row."""

import numpy as np
from reference_discovery import discovery_count_log_prior, discovery_where_prior
from reference_names import CONDITIONING
from reference_parts import ABSENT_LOGIT, cat, mlp, sigmoid
from reference_propagation import absent_rule, empty_object, propagation_prior
from reference_sequence import decode, slots

CARRIED = ("what", "where", "presence", "presence_logit", "temporal", "prior", "obj_id")


def propagate_blindly(p, f, previous, eps_what, eps_where, u):
    """One object at t, and the prior's logit of its presence."""
    prior = propagation_prior(p, f, previous)
    presence = (u < sigmoid(prior["logit"])) * previous["presence"]
    here = presence[:, None]
    new = dict(
        what=here * (prior["what_loc"] + prior["what_scale"] * eps_what),
        where=here * (prior["where_loc"] + prior["where_scale"] * eps_where),
        presence=presence,
        presence_logit=absent_rule(prior["logit"], previous["presence"]),
        temporal=previous["temporal"],
        prior=prior["state"],
        obj_id=np.where(presence == 1, previous["obj_id"], -1),
    )
    return new, prior["logit"]


def count_probs(p, f, m, first_frame):
    """`[R, N + 1]`, sum to one."""
    counts = range(f["n_steps_per_image"] + 1)
    log_p = [discovery_count_log_prior(p, f, np.full(len(m), k), m, first_frame) for k in counts]
    probs = np.exp(np.stack(np.broadcast_arrays(*log_p), -1))
    return probs / probs.sum(-1, keepdims=True)


def discover_blindly(p, f, e_prop, m, first_frame, last_id, eps_what, eps_where, u):
    """N new objects, and the last id of each row."""
    n_rows, n_slots = len(m), f["n_steps_per_image"]
    probs = count_probs(p, f, m, first_frame)
    before, objects, locations = np.ones(n_rows), [], []
    for n in range(n_slots):
        # the prior of slot n follows from the locations before it alone: fill up with anything
        padded = locations + [np.zeros((n_rows, 4))] * (n_slots - n)
        loc, scale = discovery_where_prior(p, f, padded, e_prop, m)[n]
        locations.append(loc + scale * eps_where[:, n])
        new = empty_object(p, f, n_rows)
        new["presence"], new["presence_logit"] = np.zeros(n_rows), np.full(n_rows, -ABSENT_LOGIT)
        for row in range(n_rows):
            at_least, exactly_before = probs[row, n + 1 :].sum(), probs[row, n]
            if before[row]:
                new["presence_logit"][row] = np.log(at_least / exactly_before)
                new["presence"][row] = u[row, n] < at_least / (at_least + exactly_before)
        new["what"] = new["presence"][:, None] * eps_what[:, n]
        new["where"] = new["presence"][:, None] * locations[-1]
        last_id = last_id + new["presence"]
        new["obj_id"] = np.where(new["presence"] == 1, last_id, -1)
        before = new["presence"]
        objects.append(new)
    return objects, last_id


def keep(objects, n_slots):
    """The first N of 2N slots, present ones first."""
    n_rows = len(objects[0]["presence"])
    kept = [{name: np.copy(objects[0][name]) for name in CARRIED} for _ in range(n_slots)]
    for row in range(n_rows):
        present = [o for o in objects if o["presence"][row]]
        absent = [o for o in objects if not o["presence"][row]]
        for n, o in enumerate((present + absent)[:n_slots]):
            for name in CARRIED:
                kept[n][name][row] = o[name][row]
    return kept


def step(p, f, noise, state, first_frame):
    objects, last_id = state
    n_slots = f["n_steps_per_image"]
    propagated, logits = [], []
    for n, previous in enumerate(objects):
        drawn = [noise[name + "_prop"][:, n] for name in ("eps_what", "eps_where", "u_presence")]
        new, logit = propagate_blindly(p, f, previous, *drawn)
        propagated.append(new)
        logits.append(logit)
    e_prop = sum(
        o["presence"][:, None] * mlp(p, CONDITIONING, cat(o["what"], o["where"]), linear_output=False)
        for o in propagated
    )
    m = sum(sigmoid(logit) - 0.5 for logit in logits) / n_slots
    drawn = [noise[name + "_disc"] for name in ("eps_what", "eps_where", "u_presence")]
    discovered, last_id = discover_blindly(p, f, e_prop, m, first_frame, last_id, *drawn)
    return keep(propagated + discovered, n_slots), last_id


def generate(p, f, noise, image_shape, state=None):
    """Frames of noise, dict of `[T, R, N, ...]`, to a dict of `[T, R, ...]` and the last state: (N objects, last id).

    Without a state there is no object; a state of inference is gone on from.
    """
    seq_len, n_rows, n_slots = noise["u_presence_prop"].shape
    first_frame = state is None
    if first_frame:
        state = [empty_object(p, f, n_rows) for _ in range(n_slots)], -np.ones(n_rows)
    frames = []
    for t in range(seq_len):
        state = step(p, f, {name: x[t] for name, x in noise.items()}, state, first_frame and t == 0)
        objects = state[0]
        frame = {name: slots(objects, name) for name in ("what", "where", "presence", "obj_id")}
        _, frame["canvas"], _ = decode(p, f, objects, *image_shape)
        frames.append(frame)
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}, state
