# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop and everything that it reads and writes."""
