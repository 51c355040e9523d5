# SPDX-License-Identifier: GPL-3.0-or-later
"""`test_vrnn_flags.py` builds the model; here it is found by its name."""

from sqair import config_files
from sqair.configs import mlp_vrnn_model


def test_it_is_found_by_its_name():
    assert config_files.load("mlp_vrnn_model") is mlp_vrnn_model
