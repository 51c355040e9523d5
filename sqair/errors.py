# SPDX-License-Identifier: GPL-3.0-or-later
"""The error that a user can mend."""


class UserError(Exception):
    """Something in the user's hands is wrong; the message is one sentence that names what, where and a remedy.

    Scripts print the sentence alone and exit with status 2.
    """
