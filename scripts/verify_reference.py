#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies the model against a stored forward and backward pass of the authors' release.

usage: python scripts/verify_reference.py [--nocompact] CASE.npz [CASE.npz ...]

With --nocompact the model computes all slots, with static shapes, instead of those that exist.
Reads CASE.npz and the CASE.flags.json beside it and prints the largest error of every output and gradient.
Exit status 0 if all are within tolerance, 1 if one is not, 2 if a case cannot be read.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import _quiet
from sqair.errors import UserError


def main(paths):
    """Verifies each case; returns the exit status."""
    _quiet.quieten()
    from sqair.verification.comparison import verify
    from sqair.verification.stored_case import load_case

    if paths[:1] in (["--help"], ["-h"]):
        print(__doc__.strip())
        return 0
    compact = paths[:1] != ["--nocompact"]
    paths = paths if compact else paths[1:]
    if not paths or paths[0].startswith("-"):
        raise UserError("Give the paths of stored cases: python scripts/verify_reference.py CASE.npz.")
    status = 0
    for path in paths:
        comparisons = verify(load_case(path), compact)
        for one in comparisons:
            verdict = "" if one.passed else "  FAILED, tolerance {:.0e}".format(one.tolerance)
            print("{:<9} {:<85} {:.2e}{}".format(one.kind, one.name, one.error, verdict))
        outputs = sum(one.kind == "output" for one in comparisons)
        failed = [one.name for one in comparisons if not one.passed]
        counts = "{} outputs, {} gradients".format(outputs, len(comparisons) - outputs)
        if failed:
            print("failed: {} of {}, first {}".format(len(failed), counts, failed[0]))
            status = 1
        else:
            print("verified: {}, worst {:.2e}".format(counts, max(one.error for one in comparisons)))
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
