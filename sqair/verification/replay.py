# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the model of a stored case on its input and noise with its parameters."""

import numpy as np

from sqair.data.pipeline import SequenceBatch
from sqair.engine import devices
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model import bounds
from sqair.model.sqair import mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise
from sqair.training import objective
from sqair.verification.reference_names import reference_to_ours
from sqair.verification.stored_case import NOISE

NAMING_FLAGS = ("masked_glimpse", "rec_where_prior", "disc_prior_type", "prop_prior_type")


class Replay:
    """The model of a case: a graph and a session that run on its arrays, or on others of the same shapes.

    Args:
        case: `Case`.
        compact: bool, as of `SQAIR`.

    Raises:
        UserError: if the case's parameters do not fit its flags.
    """

    def __init__(self, case, compact=True):
        images = float_images(case.arrays)
        with tf.Graph().as_default() as graph, devices.accelerator():
            model = mlp_sqair(np.zeros(images.shape[2:], np.float32), compact=compact, **case.flags)
            chosen = {flag: case.flags[flag] for flag in NAMING_FLAGS if flag in case.flags}
            self._names = reference_to_ours(**chosen)
            _check_names(case, self._names)
            self._rows = images.shape[:2] + (case.k_particles,)
            self._inputs = {"input/imgs": tf.placeholder(tf.float32, (None,) + images.shape[1:])}
            noise = FrameNoise(self._step_noise(case, "prop"), self._step_noise(case, "disc"))
            presence = tf.constant(_true_presence(case, *images.shape[:2]))
            batch = SequenceBatch(self._inputs["input/imgs"], None, presence, None, None)
            result = objective.loss_and_report(model, batch, case.k_particles, noise, case.estimator, case.l2)
            self._variables = {v.op.name: v for v in tf.global_variables()}
            self._check_parameters(case)
            trainable = {v.op.name for v in tf.trainable_variables()}
            wanted = [name for name in self._names if self._names[name] in trainable]
            parameters = [self._variables[self._names[name]] for name in wanted]
            gradients = tf.gradients(result.loss, parameters, unconnected_gradients="zero")
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            self._fetches = named_outputs(result, case.k_particles), dict(zip(wanted, gradients))
        self._session = tf.Session(graph=graph, config=session_config(0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    def run(self, arrays):
        """The model's outputs and gradients under the names that stored cases use.

        Args:
            arrays: dict of key to array, as of `Case`: its `input/imgs`, noise and `param/...` are used.

        Returns:
            Tuple of dicts: name to array, and the release's variable name to gradient.
        """
        parameters = [(self._variables[ours], arrays["param/" + name]) for name, ours in self._names.items()]
        self._session.run(
            [variable.initializer for variable, _ in parameters],
            {variable.initial_value: value.astype(np.float32) for variable, value in parameters},
        )
        feed = {tensor: self._value(key, arrays) for key, tensor in self._inputs.items()}
        return self._session.run(self._fetches, feed)

    def _step_noise(self, case, kind):
        keys = ["input/{}_{}".format(name, kind) for name in NOISE]
        for key in keys:
            shape = self._rows + case.arrays[key].shape[2:]
            self._inputs[key] = tf.placeholder(tf.float32, shape)
        return StepNoise(*[self._inputs[key] for key in keys])

    def _value(self, key, arrays):
        if key == "input/imgs":
            return float_images(arrays)
        return arrays[key].astype(np.float32).reshape(self._rows + arrays[key].shape[2:])

    def _check_parameters(self, case):
        for name, ours in self._names.items():
            found = case.arrays["param/" + name].shape
            expected = tuple(self._variables[ours].shape.as_list())
            if found != expected:
                raise UserError(
                    "param/{} has shape {} where the flags give {}.".format(name, found, expected)
                )


def float_images(arrays):
    """The images of a case: `[T, B, H, W, C]` float32; bytes from 0 to 255 become numbers from 0 to 1."""
    images = arrays["input/imgs"]
    images = images[..., None] if images.ndim == 4 else images
    scale = np.float32(255.0 if images.dtype == np.uint8 else 1.0)
    return images.astype(np.float32) / scale


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


def named_outputs(result, k_particles):
    """A dict of the release's output names to tensors."""
    outputs, steps = result.outputs, result.outputs.steps
    latents, posterior, scalars = steps.latents, steps.posterior, result.scalars
    count = lambda presence: tf.reduce_sum(presence, axis=-1)  # noqa: E731
    log_weights = tf.reduce_sum(result.log_weights, axis=0)
    iwae = bounds.iwae(log_weights)
    named = {
        "canvas": outputs.canvas,
        "glimpse": outputs.glimpses,
        "data_ll_per_sample": outputs.log_likelihood,
        "log_weights_per_timestep": outputs.log_weights,
        "log_weights": log_weights,
        "importance_weights": result.importance_weights,
        "elbo_vae": bounds.elbo(log_weights),
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
        "mse_per_sample": tf.reduce_mean(result.squared_error, axis=0),
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
