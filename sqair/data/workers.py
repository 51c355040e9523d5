# SPDX-License-Identifier: GPL-3.0-or-later
"""Work shared among processes, with results in the order of the tasks."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time

from sqair.errors import UserError

_TASKS_AHEAD = 3  # for each process; bounds the memory of results that wait for their turn
_PARENT_POLL_SECONDS = 1.0

_work = None  # in a worker process: what it does


@contextlib.contextmanager
def ordered_map(function, tasks, num_workers=None):
    """Gives an iterator over `function(task)` for each task, in order, computed by several processes.

    Args:
        function: any callable, also a closure: the processes are forks of this one. Its results are pickled.
        tasks: list of what can be pickled.
        num_workers: number of processes; None: one for each core; with 1 the work is done in this process.

    Raises:
        UserError: if a process dies, for example because memory runs out.
    """
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if num_workers < 1:
        raise UserError(f"The number of worker processes must be at least 1, not {num_workers}.")
    if num_workers == 1:
        yield map(function, tasks)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("fork"), _start_worker, (function, os.getpid())
    )
    waiting = collections.deque()
    try:
        yield _results(pool, tasks, waiting, num_workers * _TASKS_AHEAD)
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError("A worker process died, perhaps for lack of memory; try fewer of them.") from None
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown()


def _results(pool, tasks, waiting, ahead):
    for task in tasks:
        waiting.append(pool.submit(_do, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _start_worker(function, parent):
    global _work
    _work = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent):
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)


def _do(task):
    return _work(task)
