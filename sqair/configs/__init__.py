# SPDX-License-Identifier: GPL-3.0-or-later
"""One module per experiment: its own flags and one function that builds the data or the model from them."""
