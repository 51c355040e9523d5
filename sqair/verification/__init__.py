# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison with stored passes of the authors' release, and the benchmark."""
