# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags that the configs of both VRNNs share.

The deviation of pixels is 0.3. There are no discrete latent variables, so that `estimator` has no effect.
"""

from absl import flags

from sqair.baselines.fivo import RESAMPLE_BELOW
from sqair.baselines.vrnn import N_LATENT
from sqair.cli import group
from sqair.engine import devices
from sqair.engine.unroll import STREAMS

with group("Model: sizes"):
    flags.DEFINE_integer(
        "hidden_size",
        512,
        "Size of the LSTM and of all hidden layers; the paper tried 256, 512, 1024.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "n_layers", 3, "Hidden layers of each perceptron; the paper tried 2, 3, 4.", lower_bound=1
    )
    flags.DEFINE_integer(
        "n_latent", N_LATENT, "Latent variables of a frame; by default as many as SQAIR has.", lower_bound=1
    )
with group("Model: what matters most"):
    flags.DEFINE_float(
        "resample_below",
        RESAMPLE_BELOW,
        "Particles are resampled when their effective number falls below this share of them: FIVO. 0: never; then the "
        "bound is IWAE, as SQAIR's.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


def model_arguments(values):
    """The arguments of `sqair.baselines.vrnn.VRNN` that these flags set; `values`: parsed flags, or their like."""
    arguments = {
        name: getattr(values, name)
        for name in ("hidden_size", "n_layers", "n_latent", "resample_below", "debug")
    }
    return dict(arguments, streams=1 if devices.has_gpu() else STREAMS)
