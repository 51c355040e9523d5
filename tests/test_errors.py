# SPDX-License-Identifier: GPL-3.0-or-later
from sqair.errors import UserError


def test_arguments_become_flags_where_there_are_such_flags():
    error = UserError("`schedule=4,-1` and `opt` are refused; see `load` and `x=`.")
    shown = "--schedule=4,-1 and --opt are refused; see `load` and --x=."
    assert error.with_flags({"schedule", "opt", "x"}) == shown
    assert str(error).startswith("`schedule=4,-1` and `opt`")


def test_a_sentence_without_arguments_stays_as_it_is():
    assert UserError("The moon is too far.").with_flags({"moon"}) == "The moon is too far."
