# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation, metrics and figures of a trained model."""
