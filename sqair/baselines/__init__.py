# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems that the paper compares with, and their bound."""
