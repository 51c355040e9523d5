# SPDX-License-Identifier: GPL-3.0-or-later
"""How the model is computed fast, and nothing of what it computes."""
