# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of the authors' release as runs of ours, and ours as theirs: the same weights, bit for bit."""

import json
import os
import re

import numpy as np
from orderedattrdict import AttrDict

from sqair.common_model_flags import model_arguments
from sqair.data.publishing import check_vacant, staged_folder
from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.sqair import mlp_sqair
from sqair.training import checkpoints
from sqair.verification.reference_names import reference_to_ours
from sqair.verification.replay import NAMING_FLAGS
from sqair.verification.stored_case import CORES, MODEL_FLAGS

TARGETS = RUN, RELEASE = "run", "release"

_RELEASE_FLAGS = (
    *MODEL_FLAGS,
    *CORES,
    "scale_prior",
    "sample_from_prior",
    "k_particles",
    "batch_size",
    "debug",
)
_REMEDY = "give the flags that it was trained with (`source_flags`)"
_STEP, _MEAN_IMAGE = "global_step", "sqair/decoder/mean_image"


def convert(source, flags, folder, target=RUN):
    """Writes the weights and the number of updates of a checkpoint under the names of the other side.

    Args:
        source: str, path of a checkpoint; of ours also the folder of a run, for its last one. What optimisers keep
            is left out.
        flags: dict of flag name -> value, as a run folder holds them, of the model in it.
        folder: str, a new folder: of a run, with `flags.json` and `checkpoints/model-STEP`; or as the release has it,
            with `flags.json` and `model.ckpt-STEP`.
        target: str, "run" or "release": what it becomes.

    Returns:
        The path of the checkpoint in it; STEP is the number in the source's name, if there is one, or `global_step`.

    Raises:
        UserError: if variables are missing, surplus, of other shapes than the flags give, or not finite; if the release
            has no names for such a model; or if the folder is in use or cannot be written.
    """
    check_vacant(folder)
    theirs = {ours: name for name, ours in _reference_names(flags).items()}
    theirs[_STEP] = _STEP
    same = {ours: ours for ours in theirs}
    old, new = (theirs, same) if target == RUN else (same, theirs)  # names by our names
    path, values = _read(source)
    _check_names(path, values, old.values())
    _check_values(path, flags, old, values)
    number = re.search(r"-(\d+)$", path)
    step = number.group(1) if number else int(values[_STEP])
    if target == RUN:
        written = os.path.join("checkpoints", f"{checkpoints.PERMANENT}-{step}")
    else:
        written = f"model.ckpt-{step}"
        flags = {name: flags[name] for name in _RELEASE_FLAGS}
    with staged_folder(folder, check=check_vacant) as staging:
        checkpoints.write(os.path.join(staging, written), {new[ours]: values[old[ours]] for ours in theirs})
        with open(os.path.join(staging, "flags.json"), "w") as file:
            json.dump(flags, file, indent=2, sort_keys=True)
            file.write("\n")
    return os.path.join(folder, written)


def _reference_names(flags):
    """The release's names: dict to ours."""
    for name, kind in CORES.items():
        if flags[name] != kind:
            raise UserError(
                f"`{name}={flags[name]}` is refused: the release's names are known with {kind} alone."
            )
    return reference_to_ours(**{name: flags[name] for name in NAMING_FLAGS})


def _read(source):
    """The path of a checkpoint and all its variables but the optimiser's: dict of name -> array."""
    if os.path.isdir(source):
        path, _, values = checkpoints.of_run_or_path(source)
    else:
        path = source[: -len(".index")] if source.endswith(".index") else source
        try:
            values = checkpoints.read(path)
        except ValueError as error:
            raise UserError(f"{str(error).rstrip('.')}; give `source`, the path of a whole one.") from None
    return path, checkpoints.weights_of(values)


def _check_names(source, values, wanted):
    missing, surplus = sorted(set(wanted) - set(values)), sorted(set(values) - set(wanted))
    if missing or surplus:
        what = f"lacks the variable {missing[0]}" if missing else f"has the variable {surplus[0]}"
        others = len(missing or surplus) - 1
        raise UserError(
            f"{source} {what}{f' and {others} more' if others else ''}, which a model with these flags"
            f" {'has' if missing else 'does not have'}; {_REMEDY}."
        )


def _check_values(source, flags, names, values):
    """Refuses what does not fit the model; `names` are those in the source by our names."""

    def refuse(name, what):
        raise UserError(f"Variable {name} {what}; {_REMEDY}.")

    name = names[_MEAN_IMAGE]
    mean_image = values[name]
    if mean_image.ndim != 3 or not mean_image.size:
        refuse(name, f"has shape {list(mean_image.shape)} in {source} instead of height, width and channels")
    shapes = dict(_shapes(flags, mean_image.shape), **{_STEP: ()})
    for ours, name in names.items():
        value = values[name]
        kind = np.integer if ours == _STEP else np.float32
        if value.shape != shapes[ours]:
            refuse(
                name,
                f"has shape {list(value.shape)} in {source} but {list(shapes[ours])} in the model with these flags",
            )
        if not np.issubdtype(value.dtype, kind):
            refuse(name, f"is of type {value.dtype.name} in {source} instead of {kind.__name__}")
        if not np.all(np.isfinite(value)) or (ours == _STEP and value < 0):
            refuse(name, f"is not finite, or negative, in {source}")


def _shapes(flags, image_shape):
    """The shapes of the model's variables: dict of our name -> tuple."""
    with tf.Graph().as_default():
        model = mlp_sqair(np.zeros(image_shape, np.float32), **model_arguments(AttrDict(flags)))
        model(tf.zeros((1, 1) + image_shape), noise.mode(1, 1, 1, model.noise))
        return {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
