# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems that the paper compares SQAIR with: trained, evaluated and reported by the same code."""
