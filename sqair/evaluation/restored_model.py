# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained model by itself, without a data set: what tracking and generation share."""

import os

import numpy as np
from orderedattrdict import AttrDict

from sqair import config_files
from sqair.engine import devices, initial_values
from sqair.engine.lean_graph import LeanGraph
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model.sqair import SQAIR
from sqair.training import checkpoints, runs


class RestoredModel:
    """A model with the weights of a checkpoint, in a graph and session of its own; `_build` says what it computes."""

    def __init__(self, make_model, image_shape, values, source="the checkpoint", num_threads=0):
        """Builds the graph.

        Args:
            make_model: callable without arguments that builds the model in the default graph.
            image_shape: `(H, W, C)`.
            values: dict of variable name -> array; averages over updates are taken where there are any.
            source: str, where they come from, for messages.
            num_threads: int, 0 for one for each core.

        Raises:
            UserError: if a variable is missing, has another shape, or is not finite.
        """
        self.image_shape, values = tuple(image_shape), checkpoints.averaged(values)
        self._graph = LeanGraph()
        with self._graph.as_default(), devices.accelerator():
            with initial_values.keyed_by_name():
                model = make_model()
            self._build(model)
            self._session = tf.Session(config=session_config(num_threads))
            checkpoints.load(self._session, tf.global_variables(), values, source)
            names = [variable.op.name for variable in tf.global_variables()]
        broken = [name for name in names if not np.all(np.isfinite(values[name]))]
        if broken:
            raise UserError(
                f"Variable {broken[0]} of {source} has values that are not finite; take an earlier checkpoint."
            )

    @classmethod
    def from_checkpoint(cls, source, checkpoint=None, model_config=None, **options):
        """The model of a folder: of a run, or one of `models/`.

        Args:
            source: str, the folder.
            checkpoint: path of another checkpoint than the last complete one of the folder.
            model_config: path or name of the config file of a model that does not come with the package.
            options: of the constructor, e.g. `seed`.

        Raises:
            UserError: if something is missing or does not fit.
        """
        flags = AttrDict(runs.read_json(os.path.join(source, "flags.json")))
        found = checkpoints.of_run_or_path(checkpoint or source)
        config = config_files.load(model_config or runs.recorded_config(source, "model_config"))
        mean_image = _mean_image(found)
        return cls(
            lambda: config.load(flags, mean_image), mean_image.shape, found.values, found.path, **options
        )

    def close(self):
        """Frees the session."""
        self._session.close()

    def _checked(self, frame):
        """A frame as `[H, W, C]` float32 in [0, 1]."""
        frame = np.asarray(frame)
        if frame.ndim == 2:
            frame = frame[..., None]
        height, width, channels = self.image_shape
        wanted = f"[{height}, {width}, {channels}]"
        if frame.ndim != 3 or frame.shape[:2] != (height, width) or frame.shape[2] not in (1, channels):
            raise UserError(
                f"`frames` holds a frame of shape {list(frame.shape)}; the model was trained on {wanted}."
            )
        if frame.dtype == np.uint8:
            frame = frame / np.float32(255)
        elif frame.dtype.kind != "f":
            raise UserError(f"`frames` has type {frame.dtype}; uint8, or float in [0, 1], is needed.")
        elif not (np.all(frame >= 0) and np.all(frame <= 1)):
            raise UserError("`frames` has values outside [0, 1]; scale floats to that range, or give uint8.")
        return np.broadcast_to(frame, self.image_shape).astype(np.float32)

    def _build(self, model):
        """Adds to the default graph what is to be computed by a model."""
        raise NotImplementedError


def require_sqair(model, purpose):
    """Refuses a model whose objects are not SQAIR's.

    Args:
        model: what a model config's `load` returns.
        purpose: str, what SQAIR's objects are wanted for: the beginning of a sentence.

    Raises:
        UserError: if it is none.
    """
    if not isinstance(model, SQAIR):
        raise UserError(
            f"{purpose} needs objects that are followed through time, which a model of {type(model).__name__} does not"
            " know; name a run or a trained model of SQAIR."
        )


def _mean_image(checkpoint):
    """The background that a checkpoint has learned, `[H, W, C]`: it has the size of the images."""
    for name, value in checkpoint.values.items():
        if name.split("/")[-1] == "mean_image":
            return value
    raise UserError(f"{checkpoint.path} holds no variable mean_image; it is not a checkpoint of SQAIR.")
