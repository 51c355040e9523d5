# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison with a stored forward and backward pass of the authors' release or any other implementation.

The tolerances hold on every processor: rounding differs with the order in which a kernel adds, and with it the values
of the few canvas pixels that lie just at the edge of a glimpse. The canvas is therefore compared as a whole, and
each of its pixels less strictly.
"""

from typing import NamedTuple

import numpy as np

from sqair.errors import UserError
from sqair.verification.replay import Replay

OUTPUT_TOLERANCE = 1e-4  # of the largest error, relative to the largest magnitude
CANVAS_NORM_TOLERANCE = 2e-4  # of the norm of the error, relative to the norm
CANVAS_PIXEL_TOLERANCE = 2e-3  # of the largest error, relative to the largest magnitude
GRADIENT_TOLERANCE = 2e-3  # of the norm of the error, relative to the norm
SMALL_GRADIENT = 1e-3  # a gradient's norm counts as at least this share of the global norm
ONLY_WHERE_PRESENT = ("what", "where", "glimpse", "presence_prob", "presence_logit")


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
    """Runs the model of a case on its input and noise with its parameters, and compares.

    Args:
        case: `Case`.
        compact: bool, as of `SQAIR`.

    Returns:
        List of `Comparison`, outputs first.

    Raises:
        UserError: if parameters or shapes do not fit the flags.
    """
    with Replay(case, compact) as replay:
        return compare(case.arrays, *replay.run(case.arrays))


def compare(arrays, outputs, gradients):
    """Compares what a model computed with what is stored.

    Args:
        arrays: dict of key to array, as of `Case`: its `output/...` and `grad/...` are what is right.
        outputs: dict of name to array.
        gradients: dict of the release's variable name to array.

    Returns:
        List of `Comparison`, one for each stored array, outputs first.

    Raises:
        UserError: if a stored array is unknown or has another shape.
    """
    stored = {key[len("output/") :]: value for key, value in arrays.items() if key.startswith("output/")}
    comparisons = [
        Comparison("output", name, *_output_error(name, outputs, stored)) for name in sorted(stored)
    ]
    stored = {key[len("grad/") :]: value for key, value in arrays.items() if key.startswith("grad/")}
    global_norm = np.sqrt(sum(np.sum(np.square(value, dtype=np.float64)) for value in stored.values()))
    for name in sorted(stored):
        error = _gradient_error(name, gradients.get(name), np.float64(stored[name]), global_norm)
        comparisons.append(Comparison("gradient", name, error, GRADIENT_TOLERANCE))
    return comparisons


def _output_error(name, outputs, stored):
    """The error of an output where it means something, and its tolerance."""
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
    if name != "canvas":
        return _largest_error(ours, theirs), OUTPUT_TOLERANCE
    norm, pixel = _error_of_norm(ours, theirs), _largest_error(ours, theirs)
    if norm / CANVAS_NORM_TOLERANCE > pixel / CANVAS_PIXEL_TOLERANCE:  # the one nearer to its tolerance
        return norm, CANVAS_NORM_TOLERANCE
    return pixel, CANVAS_PIXEL_TOLERANCE


def _largest_error(ours, theirs):
    """Largest error relative to the largest magnitude."""
    if not theirs.size:
        return 0.0
    with np.errstate(invalid="ignore"):  # infinite less infinite is not a number, which fails as it should
        return float(np.max(np.abs(ours - theirs)) / (np.max(np.abs(theirs)) or 1.0))


def _error_of_norm(ours, theirs, least=0.0):
    """Norm of the error relative to the norm, or to `least` if that is more."""
    with np.errstate(invalid="ignore"):
        return float(np.linalg.norm(ours - theirs) / (max(np.linalg.norm(theirs), least) or 1.0))


def _gradient_error(name, ours, theirs, global_norm):
    if ours is None:
        return float("inf")
    if ours.size != theirs.size:
        raise UserError("grad/{} has shape {} instead of {}.".format(name, theirs.shape, ours.shape))
    return _error_of_norm(np.float64(ours).reshape(theirs.shape), theirs, SMALL_GRADIENT * global_norm)
