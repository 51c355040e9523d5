# SPDX-License-Identifier: GPL-3.0-or-later
"""The model in the paper's words: propagation, discovery, decoder, scoring, and what they are made of."""
