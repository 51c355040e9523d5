# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a stored forward and backward pass: CASE.npz and the CASE.flags.json beside it."""

import json
import os
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from sqair.errors import UserError
from sqair.model.priors import parse_scale_prior

NOISE = ("eps_what", "eps_where", "u_presence")
# Stored parameters have the names that the release gives them with these.
CORES = {"transition": "VanillaRNN", "time_transition": "GRU", "prior_transition": "GRU"}


def _size(value):
    if int(value) < 1:
        raise ValueError("{} is no size".format(value))
    return int(value)


def _positive(value):
    if not 0 < float(value) < float("inf"):
        raise ValueError("{} is no positive number".format(value))
    return float(value)


def _boolean(value):
    if value not in (True, False):
        raise ValueError("{} is neither true nor false".format(value))
    return bool(value)


MODEL_FLAGS = {
    "n_steps_per_image": _size,
    "n_what": _size,
    "n_units": _size,
    "glimpse_size": _size,
    "output_std": _positive,
    "output_scale": float,
    "transform_var_bias": float,
    "disc_step_bias": float,
    "prop_step_bias": float,
    "prop_prior_step_bias": float,
    "step_success_prob": _positive,
    "prop_prior_type": str,
    "disc_prior_type": str,
    "masked_glimpse": _boolean,
    "rec_where_prior": _boolean,
}


class Case(NamedTuple):
    """A stored case."""

    arrays: Any  # dict of key to array
    flags: Any  # arguments of `SQAIR`
    k_particles: int
    estimator: str
    l2: float


def load_case(path):
    """Reads and checks a case.

    Args:
        path: str, CASE.npz.

    Returns:
        `Case`.

    Raises:
        UserError: if a file is missing or unreadable, or if arrays are missing or do not fit the flags.
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
    case = _parse(flags_path, _read_arrays(path), _read_flags(flags_path))
    _check_arrays(path, case)
    return case


def _read_arrays(path):
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            "{} cannot be read as a NumPy archive: {}.".format(path, str(error).rstrip("."))
        ) from error


def _read_flags(path):
    try:
        with open(path, encoding="utf-8") as file:
            flags = json.load(file)
    except ValueError as error:
        raise UserError("{} is not valid JSON: {}.".format(path, error)) from error
    if not isinstance(flags, dict):
        raise UserError("{} must hold one JSON object of flags.".format(path))
    return flags


def _parse(path, arrays, flags):
    for name, kind in CORES.items():
        if flags.get(name, kind) != kind:
            raise UserError(
                "{} has {}={}: cases are known with {} alone.".format(path, name, flags[name], kind)
            )
    try:
        arguments = {name: kind(flags[name]) for name, kind in MODEL_FLAGS.items() if name in flags}
        arguments["scale_prior"] = parse_scale_prior(flags.get("scale_prior", -2.0))
        k_particles, l2 = _size(flags["k_particles"]), float(flags.get("l2", 0.0))
    except KeyError as error:
        raise UserError("{} has no flag {}.".format(path, error)) from error
    except (TypeError, ValueError) as error:
        raise UserError("{} holds a flag that can't work: {}.".format(path, error)) from error
    return Case(arrays, arguments, k_particles, str(flags.get("estimator", "reference")), l2)


def _check_arrays(path, case):
    """What is fed, and the presence that decides what is compared, has the shape that images and flags give."""
    arrays = case.arrays
    inputs = ["input/{}_{}".format(noise, kind) for noise in NOISE for kind in ("prop", "disc")]
    for key in ["input/imgs", "output/presence"] + inputs:
        if key not in arrays:
            raise UserError("{} has no array {}.".format(path, key))
    shape = arrays["input/imgs"].shape
    if len(shape) not in (4, 5):
        raise UserError(
            "{}: input/imgs has shape {} instead of [T, B, H, W] or [T, B, H, W, C].".format(path, shape)
        )
    slots = (shape[0], shape[1] * case.k_particles, case.flags.get("n_steps_per_image", 3))
    last = {"eps_what": (case.flags.get("n_what", 50),), "eps_where": (4,), "u_presence": ()}
    for key in inputs + ["output/presence"]:
        expected = slots + last.get(key[len("input/") : -len("_prop")], ())
        found = arrays[key].shape
        if found != expected:
            raise UserError(
                "{}: {} has shape {} where {} frames of {} sequences, k_particles={} and the other flags "
                "give {}.".format(path, key, found, shape[0], shape[1], case.k_particles, expected)
            )
    nums = arrays.get("input/nums", np.zeros([1, shape[1], 1]))
    if nums.ndim != 3 or nums.shape[0] not in (1, shape[0]) or nums.shape[1] != shape[1]:
        raise UserError(
            "{}: input/nums has shape {} instead of [1, {}, M].".format(path, nums.shape, shape[1])
        )
