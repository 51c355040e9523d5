# SPDX-License-Identifier: GPL-3.0-or-later
import os
import signal

import pytest

from sqair.data import workers
from sqair.errors import UserError


def test_results_come_in_order():
    def square(task):
        return task * task, os.getpid()

    for num_workers in (1, 3, None):
        with workers.ordered_map(square, range(50), num_workers) as results:
            results = list(results)
        assert [value for value, _ in results] == [task * task for task in range(50)]
        assert (os.getpid() in {process for _, process in results}) == (
            (num_workers or workers.available_cores()) == 1
        )


def test_errors_of_workers():
    def fail(task):
        if task == 3:
            raise UserError("The third task is wrong.")
        return task

    def die(task):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="third task"), workers.ordered_map(fail, range(9), 2) as results:
        list(results)
    with pytest.raises(UserError, match="process died"), workers.ordered_map(die, range(9), 2) as results:
        list(results)
