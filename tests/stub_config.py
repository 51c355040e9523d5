# SPDX-License-Identifier: GPL-3.0-or-later
"""A model config for scripts/train.py, of the stub model."""

from absl import flags
from stub_model import StubModel

flags.DEFINE_integer("n_what", 2, "Size of a variable.")


def load(flags, mean_image):
    return StubModel(mean_image.shape, flags.n_what)
