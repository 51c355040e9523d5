# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps TensorFlow 1.15 and its neighbours from talking over the messages of scripts.

Quietened are the C++ log below FATAL (without CUDA the first session calls the missing driver an error; set
`TF_CPP_MIN_LOG_LEVEL=0` to read it all) and deprecations that one third-party file holds against another.
"""

import logging
import os

THIRD_PARTY = ("tensorflow_core", "tensorflow_probability", "tensorflow_estimator", "sonnet")


def quieten():
    """Drops these messages. For scripts, before they import TensorFlow; users of the library choose themselves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").addFilter(is_ours)


def is_ours(record):
    """Whether a log record of TensorFlow is about something that its user can change.

    TensorFlow logs a use of something deprecated as `From %s: ...` and the place of the use (path:line).
    """
    if not str(record.msg).startswith("From %s"):
        return True
    place = str(record.args[0]) if record.args else ""
    return not any("/%s/" % package in place.replace(os.sep, "/") for package in THIRD_PARTY)
