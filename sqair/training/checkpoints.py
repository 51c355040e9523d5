# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoint files: written whole or not at all, read with their checksums, matched to a model's variables.

A checkpoint is as `tf.train.Saver` writes it: `<name>-<step>.index` and `<name>-<step>.data-00000-of-00001`.
Its name without these endings is called its path here. There are two kinds: `model-<step>`, which stay, and
`rolling-<step>`, of which only the latest is kept.
"""

import hashlib
import os
import re
import shutil
from typing import NamedTuple

import numpy as np

from sqair import files
from sqair.errors import UserError
from sqair.graph_mode import first_line, tf

PERMANENT, ROLLING = "model", "rolling"
_DATA_ENDING, _INDEX_ENDING = ".data-00000-of-00001", ".index"  # the index comes last: it marks completeness
_INDEX_PATTERN = re.compile(rf"({PERMANENT}|{ROLLING})-(\d+)\{_INDEX_ENDING}")
_PARTIAL_FOLDER = "partial"
# What optimisers keep: variables beside those that they optimise, and powers of Adam's rates.
_OPTIMISER = re.compile(
    r"/(Adadelta|Adagrad|AdagradDA|Adam|Ftrl|Momentum|RMSProp)(_\d+)?$|(^|/)beta[12]_power(_\d+)?$"
)
_AVERAGE = "/average"  # ends the name of a variable that holds the average of another


class Checkpoint(NamedTuple):
    """A complete checkpoint of a run and what it holds."""

    path: str
    step: int  # updates, None if a checkpoint named by its path does not say
    values: dict  # variable name -> array


class Saver:
    """Writes variables into files: what `tf.train.Saver` adds to a graph for writing, and nothing else."""

    def __init__(self, variables):
        """Adds the operation to the default graph."""
        self._path = tf.placeholder(tf.string, [], "checkpoint_path")
        self._write = tf.raw_ops.SaveV2(
            prefix=self._path,
            tensor_names=[variable.op.name for variable in variables],
            shape_and_slices=[""] * len(variables),
            tensors=[tf.convert_to_tensor(variable) for variable in variables],
        )

    def write(self, session, path):
        """Writes a checkpoint straight to its path; `save` is safer."""
        session.run(self._write, {self._path: path})


def save(session, saver, folder, step, rolling=False):
    """Writes a checkpoint under a temporary name, reads it back, and only then gives it its name.

    An earlier rolling checkpoint is removed when the new one is on the disk.

    Args:
        session: `tf.Session` whose variables are saved.
        saver: `Saver`.
        folder: str, where checkpoints go.
        step: int, updates done so far.
        rolling: whether the checkpoint may be removed when the next one is complete.

    Returns:
        The path of the checkpoint.

    Raises:
        UserError: if it can't be written; those that were there before are untouched.
    """
    path = os.path.join(folder, f"{ROLLING if rolling else PERMANENT}-{step}")
    partial_folder = os.path.join(folder, _PARTIAL_FOLDER)
    partial = os.path.join(partial_folder, os.path.basename(path))
    try:
        files.make_folder(folder)
        os.makedirs(partial_folder, exist_ok=True)
        saver.write(session, partial)
        read(partial)
        for ending in (_DATA_ENDING, _INDEX_ENDING):
            files.publish(partial + ending, path + ending)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"Checkpoint {path} cannot be written: {_reason(error)}; the checkpoints before it are untouched, and"
            " the run can be resumed from the last of them once there is free space and permission to write."
        ) from None
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    _remove_rolling_before(folder, step)
    return path


def write(path, values):
    """Writes arrays as a checkpoint straight to its path, and reads it back.

    Args:
        path: str; its folder is made.
        values: dict of variable name -> array; they are written in the order of their names.

    Raises:
        OSError: if it can't be written.
    """
    names = sorted(values)
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        tensors = [tf.placeholder(values[name].dtype, values[name].shape) for name in names]
        save = tf.raw_ops.SaveV2(
            prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
        )
        try:
            session.run(save, {tensor: values[name] for tensor, name in zip(tensors, names)})
            read(path)
        except (ValueError, tf.errors.OpError) as error:
            raise OSError(_reason(error)) from None


def read(path):
    """Reads all variables of a checkpoint and checks their checksums.

    Returns:
        Dict of variable name -> array.

    Raises:
        ValueError: if a file is missing, truncated or damaged.
    """
    path = os.fspath(path)
    if path.endswith(_INDEX_ENDING):
        path = path[: -len(_INDEX_ENDING)]
    for ending in (_INDEX_ENDING, _DATA_ENDING):
        if not os.path.isfile(path + ending):
            raise ValueError(f"Checkpoint {path} is incomplete: {os.path.basename(path)}{ending} is missing.")
    try:
        reader = tf.train.NewCheckpointReader(path)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (
        tf.errors.OpError,
        RuntimeError,
        IndexError,
    ) as error:  # the last is what 2.x makes of one cut short
        raise ValueError(f"Checkpoint {path} is truncated or damaged: {_reason(error)}.") from None


def latest(folder, on_damaged=None):
    """The last complete checkpoint of a folder; truncated and incomplete ones are passed over.

    A training may replace its rolling checkpoint meanwhile: the folder is listed again then.

    Args:
        folder: str, where checkpoints are.
        on_damaged: callable, called with a sentence about each checkpoint that is passed over.

    Returns:
        `Checkpoint`, or None if there is none.
    """
    for step, path in sorted(_listed(folder), reverse=True):
        try:
            return Checkpoint(path, step, read(path))
        except ValueError as error:
            if not os.path.exists(
                path + _INDEX_ENDING
            ):  # removed since it was listed, always before its data
                return latest(folder, on_damaged)
            if on_damaged is not None:
                on_damaged(f"{error} It is passed over.")
    return None


def of_run_or_path(source):
    """The `Checkpoint` that a run's folder, its last complete one, or a checkpoint's path stands for.

    Raises:
        UserError: if there is none.
    """
    folder = os.path.join(source, "checkpoints")
    found = latest(folder) if os.path.isdir(folder) else None
    if found is not None:
        return found
    try:
        values = read(source)
    except ValueError as error:
        raise UserError(
            f"{str(error).rstrip('.')}; name the folder of a run with a complete checkpoint, or a checkpoint's path."
        ) from None
    step = values.get("global_step")
    return Checkpoint(source, None if step is None else int(step), values)


def every(folder, n):
    """The paths of every n-th checkpoint that a folder keeps for good, and of the last, by step."""
    kept = sorted(
        (step, path) for step, path in _listed(folder) if os.path.basename(path).startswith(PERMANENT)
    )
    return [path for i, (_, path) in enumerate(kept, 1) if i % n == 0 or i == len(kept)]


def average_of(name):
    """The name of the variable that holds a variable's average over updates."""
    return f"{name}{_AVERAGE}"


def averaged(values):
    """The weights to evaluate among a checkpoint's values: averages where a training has kept them, dict."""
    if np.array_equal(values.get("global_step"), 0):  # there are none yet
        return values
    return {
        name: values.get(average_of(name), value)
        for name, value in values.items()
        if not name.endswith(_AVERAGE)
    }


def weights_of(values):
    """The model's weights and `global_step` among a checkpoint's values, averaged, without what optimisers remember."""
    return {
        name: np.asarray(value) for name, value in averaged(values).items() if not _OPTIMISER.search(name)
    }


def digest(values):
    """A short fingerprint of the model's weights in a checkpoint, the same for a run and the model exported: str."""
    return fingerprint(weights_of(values))


def fingerprint(arrays):
    """A short fingerprint of arrays by name: str."""
    found = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        found.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return found.hexdigest()[:16]


def load(session, variables, values, source):
    """Sets variables of a session, without adding to its graph.

    Args:
        session: `tf.Session`.
        variables: list of `tf.Variable` to set.
        values: dict of variable name -> array; it may hold more than the variables.
        source: str, where the values come from, for messages.

    Raises:
        UserError: if a variable is missing in `values` or has another shape there.
    """
    feed = {}
    for variable in variables:
        name, wanted = variable.op.name, tuple(variable.shape.as_list())
        if name not in values:
            raise UserError(
                f"{source} holds no variable {name}, which the model with these flags has; use the flags it was"
                " trained with."
            )
        found = np.shape(values[name])
        if found != wanted:
            raise UserError(
                f"Variable {name} has shape {list(found)} in {source} but {list(wanted)} in the model with these"
                " flags; use the flags it was trained with."
            )
        feed[variable.initializer.inputs[1]] = values[name]
    assert len(feed) == len(variables), "each variable needs an initial value of its own"
    session.run([variable.initializer for variable in variables], feed)


def _listed(folder):
    """The checkpoints in a folder by their index files: list of (step, path)."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = [match for match in map(_INDEX_PATTERN.fullmatch, names) if match]
    return [
        (int(match.group(2)), os.path.join(folder, match.group(0)[: -len(_INDEX_ENDING)]))
        for match in matches
    ]


def _remove_rolling_before(folder, step):
    for other, path in _listed(folder):
        if other < step and os.path.basename(path).startswith(ROLLING):
            for ending in (_INDEX_ENDING, _DATA_ENDING):
                if os.path.exists(path + ending):
                    os.remove(path + ending)


def _reason(error):
    """The first line of an error of the system or of TensorFlow, without its full stop."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = first_line(error) if isinstance(error, tf.errors.OpError) else str(error).strip().split("\n")[0]
    return text.rstrip(".").split("; ")[-1]  # "file; reason" of TensorFlow's writers
