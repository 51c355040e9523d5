# SPDX-License-Identifier: GPL-3.0-or-later
"""A module with a mistake, in this process: for tests of what no stored case covers."""

import types


def mutated(module, right, wrong):
    """A copy of a module in whose source one place, `right`, is `wrong`."""
    with open(module.__file__, encoding="utf-8") as file:
        source = file.read()
    assert source.count(right) == 1, f"{module.__name__} holds {right!r} {source.count(right)} times"
    copy = types.ModuleType(module.__name__)
    copy.__file__ = module.__file__
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), copy.__dict__)
    return copy
