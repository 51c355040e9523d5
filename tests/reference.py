# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle: SQAIR in slow, obvious float64 NumPy, written from its description and nothing else.

Parameters are a dict by the names of the original's variables. The parts: `reference_parts` (layers,
densities, spatial transformer), `reference_propagation`, `reference_discovery`, `reference_sequence`,
`reference_bounds`, `reference_toy`; `reference_cases` makes cases.
"""

import numpy as np
from autograd.core import make_vjp
from autograd.tracer import getval
from reference_bounds import (  # noqa: F401
    elbo,
    ess,
    importance_weights,
    iwae,
    iwae_per_example,
    loss,
    vimco_baseline,
)
from reference_names import is_trainable
from reference_parts import boxes, num_steps_probs, read_glimpse, write_glimpse  # noqa: F401
from reference_sequence import sequence


def run(flags, params, inputs, estimator="reference", l2=0.0, gradients=True):
    """One forward pass, and by default a backward pass.

    Args:
        flags: dict of model flags.
        params: dict name -> array, all variables (fixed ones included).
        inputs: dict with imgs `[T, B, H, W]` (0 to 255), nums `[1, B, M + 1]` and the noise `[T, R, N, ...]`.
        estimator: reference, vimco or reinforce.
        l2: factor of the sum of squares of the trainable parameters, halved.

    Returns:
        (outputs, gradients): dicts of float64 arrays; gradients of `outputs["target"]` by name.
    """
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    trainable = sorted(name for name in params if is_trainable(name))
    outputs = {}

    def target(values):
        everything = dict(params)
        everything.update(zip(trainable, values))
        result = sequence(everything, flags, inputs, estimator, l2, trainable)
        for name, value in result.items():
            outputs[name] = getval(value)
        return result["target"]

    values = tuple(params[name] for name in trainable)
    if not gradients:
        target(values)
        return outputs, {}
    vjp, _ = make_vjp(target, values)
    return outputs, dict(zip(trainable, vjp(1.0)))
