# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential Attend, Infer, Repeat: a generative model of moving objects (arXiv:1806.01794)."""

from sqair import _quiet  # before anything that imports TensorFlow

__version__ = "0.1.0"
