# SPDX-License-Identifier: GPL-3.0-or-later
"""The user-fixable error."""

import re

_ARGUMENT = re.compile(r"`(\w+)(=[^`]*)?`")


class UserError(Exception):
    """Something that the user controls is wrong; the message is one sentence that names what, where and a remedy.

    Arguments stand between backticks, alone or with their value: "`seq_len=99` is refused: ...; set `data_dir`."
    Scripts print the sentence alone, with arguments as their flags (`with_flags`), and exit with status 2.
    """

    def with_flags(self, flags):
        """The message in which each argument that is one of these flags' names stands as on a command line."""

        def as_flag(match):
            name, value = match.groups()
            return f"--{name}{value or ''}" if name in flags else match.group()

        return _ARGUMENT.sub(as_flag, str(self))
