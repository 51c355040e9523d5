# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison with a stored forward and backward pass of the authors' release or any other implementation."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sqair.data.pipeline import SequenceBatch
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.model import bounds
from sqair.model.sqair import SQAIR
from sqair.model.structures import FrameNoise, StepNoise
from sqair.training import objective
from sqair.verification.reference_names import reference_to_ours
from sqair.verification.stored_case import NOISE

OUTPUT_TOLERANCE = 1e-4
CANVAS_TOLERANCE = 3e-4
GRADIENT_TOLERANCE = 2e-3
SMALL_GRADIENT = 1e-3  # a gradient's norm counts as at least this share of the global norm
ONLY_WHERE_PRESENT = ("what", "where", "glimpse", "presence_prob", "presence_logit")
NAMING_FLAGS = ("masked_glimpse", "rec_where_prior", "disc_prior_type", "prop_prior_type")


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


def verify(case, compact=True):
    """Runs the model of a case on its input and noise with its parameters.

    Args:
        case: `Case`.
        compact: bool, as of `SQAIR`.

    Returns:
        List of `Comparison`, outputs first.

    Raises:
        UserError: if parameters or shapes do not fit the flags.
    """
    outputs, gradients = run(case, compact)
    stored = {key[len("output/") :]: value for key, value in case.arrays.items() if key.startswith("output/")}
    comparisons = [
        Comparison("output", name, _output_error(name, outputs, stored), _output_tolerance(name))
        for name in sorted(stored)
    ]
    stored = {key[len("grad/") :]: value for key, value in case.arrays.items() if key.startswith("grad/")}
    global_norm = np.sqrt(sum(np.sum(np.square(value, dtype=np.float64)) for value in stored.values()))
    for name in sorted(stored):
        error = _gradient_error(name, gradients.get(name), np.float64(stored[name]), global_norm)
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
    theirs = theirs.reshape(ours.shape)
    if name in ONLY_WHERE_PRESENT or name.startswith(("what_", "where_")):
        present = np.float64(stored["presence"]) == 1
        ours, theirs = ours[present], theirs[present]
    if not theirs.size:
        return 0.0
    with np.errstate(invalid="ignore"):  # infinite less infinite is not a number, which fails as it should
        return float(np.max(np.abs(ours - theirs)) / (np.max(np.abs(theirs)) or 1.0))


def _gradient_error(name, ours, theirs, global_norm):
    if ours is None:
        return float("inf")
    if ours.size != theirs.size:
        raise UserError("grad/{} has shape {} instead of {}.".format(name, theirs.shape, ours.shape))
    norm = max(np.linalg.norm(theirs), SMALL_GRADIENT * global_norm)
    with np.errstate(invalid="ignore"):
        difference = np.float64(ours).reshape(theirs.shape) - theirs
        return float(np.linalg.norm(difference) / (norm or 1.0))


def run(case, compact=True):
    """The model's outputs and gradients under the names that stored cases use.

    Args:
        case: `Case`.
        compact: bool, as of `SQAIR`.

    Returns:
        Tuple of dicts: name to array, and the release's variable name to gradient.
    """
    images = case.arrays["input/imgs"]
    images = images[..., None] if images.ndim == 4 else images
    seq_len, batch_size = images.shape[:2]
    k_particles = case.k_particles
    with tf.Graph().as_default():
        model = SQAIR(np.zeros(images.shape[2:], np.float32), compact=compact, **case.flags)
        names = reference_to_ours(**{flag: case.flags[flag] for flag in NAMING_FLAGS if flag in case.flags})
        _check_names(case, names)
        noise = _noise(case, seq_len, batch_size)
        presence = _true_presence(case, seq_len, batch_size)
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        image_placeholder = tf.compat.v1.placeholder(tf.float32, [None] + list(images.shape[1:]))
        batch = SequenceBatch(image_placeholder, None, tf.constant(presence), None, None)
        result = objective.loss_and_report(model, batch, k_particles, noise, case.estimator, case.l2)
        variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
        assignments = _assignments(case, names, variables)
        trainable = {v.op.name for v in tf.compat.v1.trainable_variables()}
        wanted = [name for name in names if names[name] in trainable]
        parameters = [variables[names[name]] for name in wanted]
        gradients = tf.gradients(result.loss, parameters, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        with tf.compat.v1.Session(config=session_config(0)) as session:
            session.run(
                [v.initializer for v, _ in assignments], {v.initial_value: value for v, value in assignments}
            )
            fetches = named_outputs(result, k_particles), dict(zip(wanted, gradients))
            return session.run(fetches, {image_placeholder: images.astype(np.float32) / np.float32(scale)})


def _noise(case, seq_len, batch_size):
    def field(name, kind):
        value = case.arrays["input/{}_{}".format(name, kind)].astype(np.float32)
        return tf.constant(value.reshape((seq_len, batch_size, case.k_particles) + value.shape[2:]))

    return FrameNoise(*[StepNoise(*[field(name, kind) for name in NOISE]) for kind in ("prop", "disc")])


def _true_presence(case, seq_len, batch_size):
    """`[T, B, M]` ground truth; without one, nothing is there."""
    nums = case.arrays.get("input/nums", np.zeros([1, batch_size, 1]))
    return np.broadcast_to(nums, (seq_len,) + nums.shape[1:]).astype(np.float32)


def _check_names(case, names):
    params = {key[len("param/") :] for key in case.arrays if key.startswith("param/")}
    missing, unknown = sorted(set(names) - params), sorted(params - set(names))
    if missing or unknown:
        what = "has no param/" + missing[0] if missing else "has param/" + unknown[0]
        raise UserError("The case {}, {} by its flags.".format(what, "needed" if missing else "unknown"))


def _assignments(case, names, variables):
    assignments = []
    for name, ours in names.items():
        variable, value = variables[ours], case.arrays["param/" + name].astype(np.float32)
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
