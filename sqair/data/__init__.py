# SPDX-License-Identifier: GPL-3.0-or-later
"""Data sets: digits, how they move, sequences of them on disk, and batches for TensorFlow."""
