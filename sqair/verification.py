# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison with a stored forward and backward pass of the authors' release (or of any other implementation)."""

import json
import os
import zipfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from sqair import bounds, objective
from sqair.errors import UserError
from sqair.evaluation import session_config
from sqair.model import SQAIR
from sqair.reference_names import reference_to_ours
from sqair.structures import FrameNoise, SequenceBatch, StepNoise

OUTPUT_TOLERANCE = 1e-4
CANVAS_TOLERANCE = 3e-4
GRADIENT_TOLERANCE = 2e-3
SMALL_GRADIENT = 1e-3  # a gradient's norm counts as at least this share of the global norm
ONLY_WHERE_PRESENT = ("what", "where", "glimpse", "presence_prob", "presence_logit")
MODEL_FLAGS = {
    "n_steps_per_image": int,
    "n_what": int,
    "n_units": int,
    "glimpse_size": int,
    "output_std": float,
    "output_scale": float,
    "transform_var_bias": float,
    "disc_step_bias": float,
    "prop_step_bias": float,
    "prop_prior_step_bias": float,
    "step_success_prob": float,
    "prop_prior_type": str,
    "disc_prior_type": str,
    "masked_glimpse": bool,
    "rec_where_prior": bool,
    "transition": str,
    "time_transition": str,
    "prior_transition": str,
}


class Case(NamedTuple):
    """A stored case."""

    arrays: Any  # dict of key to array
    flags: Any  # arguments of `SQAIR`
    k_particles: int
    estimator: str
    l2: float


class Comparison(NamedTuple):
    """One compared array."""

    kind: str  # "output" or "gradient"
    name: str
    error: float
    tolerance: float

    @property
    def passed(self):
        """Whether the error is a number within the tolerance."""
        return bool(self.error <= self.tolerance)


def load_case(path):
    """Reads CASE.npz and the CASE.flags.json beside it.

    Raises:
        UserError: if one of them is missing, unreadable or incomplete.
    """
    if not path.endswith(".npz"):
        raise UserError(
            "{} is not a case: give the path of a CASE.npz with CASE.flags.json beside it.".format(path)
        )
    flags_path = path[: -len(".npz")] + ".flags.json"
    for file in (path, flags_path):
        if not os.path.isfile(file):
            raise UserError(
                "{} does not exist: a case is CASE.npz with CASE.flags.json beside it.".format(file)
            )
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError("{} cannot be read as a NumPy archive: {}.".format(path, str(error).rstrip(".")))
    try:
        with open(flags_path) as file:
            flags = json.load(file)
    except ValueError as error:
        raise UserError("{} is not valid JSON: {}.".format(flags_path, error))
    if not isinstance(flags, dict):
        raise UserError("{} must hold one JSON object of flags.".format(flags_path))
    return _parse_case(path, flags_path, arrays, flags)


def _parse_case(path, flags_path, arrays, flags):
    needed = ["input/imgs", "output/presence"]
    needed += ["input/{}_{}".format(noise, kind) for noise in _NOISE for kind in ("prop", "disc")]
    for key in needed:
        if key not in arrays:
            raise UserError("{} has no array {}.".format(path, key))
    try:
        arguments = {name: kind(flags[name]) for name, kind in MODEL_FLAGS.items() if name in flags}
        arguments["scale_prior"] = parse_scale_prior(flags.get("scale_prior", -2.0))
        k_particles, l2 = int(flags["k_particles"]), float(flags.get("l2", 0.0))
    except KeyError as error:
        raise UserError("{} has no flag {}.".format(flags_path, error))
    except (TypeError, ValueError) as error:
        raise UserError("{} holds a flag of the wrong type: {}.".format(flags_path, error))
    return Case(arrays, arguments, k_particles, str(flags.get("estimator", "reference")), l2)


def parse_scale_prior(value):
    """Two floats (x, y) from a number, one or two numbers in a string, or a list.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(value, str):
        value = value.strip("[]() ").replace(",", " ").split()
    numbers = [float(x) for x in np.atleast_1d(value)]
    if len(numbers) not in (1, 2):
        raise ValueError("scale_prior takes one number or one per axis, not {}".format(value))
    return tuple(numbers * (2 // len(numbers)))


_NOISE = ("eps_what", "eps_where", "u_presence")


def verify(case):
    """Runs the model of a case on its input and noise with its parameters.

    Args:
        case: `Case`.

    Returns:
        List of `Comparison`, outputs first.

    Raises:
        UserError: if parameters or shapes do not fit the flags.
    """
    outputs, gradients = run(case)
    stored = {key[len("output/") :]: value for key, value in case.arrays.items() if key.startswith("output/")}
    comparisons = [
        Comparison("output", name, _output_error(name, outputs, stored), _output_tolerance(name))
        for name in sorted(stored)
    ]
    stored = {key[len("grad/") :]: value for key, value in case.arrays.items() if key.startswith("grad/")}
    global_norm = np.sqrt(sum(np.sum(np.square(value, dtype=np.float64)) for value in stored.values()))
    for name in sorted(stored):
        error = _gradient_error(gradients.get(name), np.float64(stored[name]), global_norm)
        comparisons.append(Comparison("gradient", name, error, GRADIENT_TOLERANCE))
    return comparisons


def _output_tolerance(name):
    return CANVAS_TOLERANCE if name == "canvas" else OUTPUT_TOLERANCE


def _output_error(name, outputs, stored):
    """Largest error relative to the array's largest magnitude, where the array means something."""
    if name not in outputs:
        raise UserError("The case holds output/{}, which this model does not have.".format(name))
    ours, theirs = np.float64(outputs[name]), np.float64(stored[name])
    if ours.size != theirs.size:
        raise UserError(
            "output/{} has shape {} where the flags give {}.".format(name, theirs.shape, ours.shape)
        )
    ours = ours.reshape(theirs.shape)
    if name in ONLY_WHERE_PRESENT or name.startswith(("what_", "where_")):
        present = np.float64(stored["presence"]) == 1
        ours, theirs = ours[present], theirs[present]
    if not theirs.size:
        return 0.0
    return float(np.max(np.abs(ours - theirs)) / (np.max(np.abs(theirs)) or 1.0))


def _gradient_error(ours, theirs, global_norm):
    if ours is None:
        return float("inf")
    norm = max(np.linalg.norm(theirs), SMALL_GRADIENT * global_norm)
    return float(np.linalg.norm(np.float64(ours).reshape(theirs.shape) - theirs) / (norm or 1.0))


def run(case):
    """The model's outputs and gradients under the names that stored cases use.

    Returns:
        Tuple of dicts: name to array, and the release's variable name to gradient.
    """
    images = case.arrays["input/imgs"]
    images = images[..., None] if images.ndim == 4 else images
    seq_len, batch_size = images.shape[:2]
    k_particles = case.k_particles
    names = reference_to_ours(
        **{
            key: case.flags[key]
            for key in ("masked_glimpse", "rec_where_prior", "disc_prior_type", "prop_prior_type")
            if key in case.flags
        }
    )
    with tf.Graph().as_default():
        model = SQAIR(np.zeros(images.shape[2:], np.float32), **case.flags)
        noise = _noise(case, seq_len, batch_size)
        presence = _true_presence(case, seq_len, batch_size)
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        image_placeholder = tf.compat.v1.placeholder(tf.float32, [None] + list(images.shape[1:]))
        batch = SequenceBatch(image_placeholder, None, tf.constant(presence), None, None)
        result = objective.evaluate(model, batch, k_particles, noise, case.estimator, case.l2)
        variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
        assignments = _assignments(case, names, variables)
        trainable = {v.op.name for v in tf.compat.v1.trainable_variables()}
        wanted = [name for name in names if names[name] in trainable]
        gradients = tf.gradients(result.loss, [variables[names[name]] for name in wanted])
        gradients = [tf.convert_to_tensor(g) if g is not None else tf.constant(0.0) for g in gradients]
        with tf.compat.v1.Session(config=session_config(0)) as session:
            session.run(
                [v.initializer for v, _ in assignments], {v.initial_value: value for v, value in assignments}
            )
            fetches = named_outputs(result, k_particles), dict(zip(wanted, gradients))
            return session.run(fetches, {image_placeholder: images.astype(np.float32) / np.float32(scale)})


def _noise(case, seq_len, batch_size):
    def step_noise(kind):
        def field(name):
            value = case.arrays["input/{}_{}".format(name, kind)].astype(np.float32)
            rows = batch_size * case.k_particles
            if value.shape[:2] != (seq_len, rows):
                raise UserError(
                    "input/{}_{} has shape {}: {} frames of {} sequences with {} particles need [{}, {}, ...].".format(
                        name, kind, value.shape, seq_len, batch_size, case.k_particles, seq_len, rows
                    )
                )
            return tf.constant(value.reshape((seq_len, batch_size, case.k_particles) + value.shape[2:]))

        return StepNoise(*[field(name) for name in _NOISE])

    return FrameNoise(step_noise("prop"), step_noise("disc"))


def _true_presence(case, seq_len, batch_size):
    """`[T, B, M]` ground truth; without one, nothing is there."""
    nums = case.arrays.get("input/nums", np.zeros([1, batch_size, 1]))
    return np.broadcast_to(nums, (seq_len,) + nums.shape[1:]).astype(np.float32)


def _assignments(case, names, variables):
    params = {key[len("param/") :]: value for key, value in case.arrays.items() if key.startswith("param/")}
    missing, unknown = sorted(set(names) - set(params)), sorted(set(params) - set(names))
    if missing or unknown:
        what = "has no param/" + missing[0] if missing else "has param/" + unknown[0]
        raise UserError(
            "The case {}, {} by its flags.".format(what, "which is needed" if missing else "unknown")
        )
    assignments = []
    for name, ours in names.items():
        variable, value = variables[ours], params[name].astype(np.float32)
        shape = variable.shape.as_list()
        if value.shape != tuple(shape):
            raise UserError(
                "param/{} has shape {} where the flags give {}.".format(name, value.shape, tuple(shape))
            )
        assignments.append((variable, value))
    return assignments


def named_outputs(result, k_particles):
    """A dict of the release's output names to tensors."""
    outputs, steps = result.outputs, result.outputs.steps
    latents, posterior, scalars = steps.latents, steps.posterior, result.scalars
    count = lambda presence: tf.reduce_sum(presence, axis=-1)  # noqa: E731
    iwae = bounds.iwae(result.log_weights)
    named = {
        "canvas": outputs.canvas,
        "glimpse": outputs.glimpses,
        "data_ll_per_sample": outputs.log_likelihood,
        "log_weights_per_timestep": outputs.log_weights,
        "log_weights": result.log_weights,
        "importance_weights": result.importance_weights,
        "elbo_vae": bounds.elbo(result.log_weights),
        "elbo_iwae": tf.reduce_mean(iwae),
        "elbo_iwae_per_example": iwae,
        "target": result.loss,
        "obj_id": steps.object_ids,
        "log_q_z_given_x_per_sample": steps.log_q,
        "log_p_z_per_sample": steps.log_p,
        "kl_per_sample": steps.log_q - steps.log_p,
        "discrete_log_prob": steps.discrete_log_q,
        "step_log_prob": steps.discrete_log_q,
        "num_steps_per_sample": count(latents.presence),
        "num_step_accuracy": scalars["num_step_acc"],
        "mse_per_sample": result.squared_error,
    }
    for kind, its in (("prop", steps.propagation), ("disc", steps.discovery)):
        named["num_{}_steps_per_sample".format(kind)] = count(its.presence)
        named["{}_pres".format(kind)] = its.presence
        named["{}_prob".format(kind)] = its.prob
        for prior, log_probs in (("", its.log_q), ("prior_", its.log_p)):
            named["{}_{}log_prob".format(kind, prior)] = log_probs.presence
            named["{}_what_{}log_prob".format(kind, prior)] = log_probs.what
            named["{}_where_{}log_prob".format(kind, prior)] = log_probs.where
    named.update(latents._asdict())
    named.update(posterior._asdict())
    same_name = "data_ll", "kl", "log_p_z", "log_q_z_given_x", "num_steps", "num_disc_steps", "num_prop_steps"
    named.update({name: scalars[name] for name in same_name + ("mse", "raw_mse", "ess")})
    return named
