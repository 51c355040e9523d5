# SPDX-License-Identifier: GPL-3.0-or-later
"""Work shared among processes, with results in the order of the tasks."""

import contextlib
import multiprocessing
import os
import signal

from sqair.errors import UserError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def available_cores():
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextlib.contextmanager
def ordered_map(function, tasks, num_workers=None):
    """Gives an iterator over `function(task)` for each task, in order, computed by several processes.

    Worker i of n does the tasks i, i + n, i + 2n, ... and waits until its results are fetched, so that few
    are in memory. The workers end with the block, and when this process is killed.

    Args:
        function: any callable, also a closure: the processes are forks of this one. Its results are pickled.
        tasks: list.
        num_workers: number of processes; None: one for each core; with 1 the work is done in this process.

    Raises:
        UserError: if a process dies, for example because memory runs out.
    """
    if num_workers is None:
        num_workers = available_cores()
    if num_workers < 1:
        raise UserError(f"The number of worker processes must be at least 1, not {num_workers}.")
    if num_workers == 1:
        yield map(function, tasks)
        return
    processes, receivers = [], []
    try:
        for i in range(num_workers):
            _start(function, tasks[i::num_workers], processes, receivers)
        yield _results(receivers, len(tasks))
    finally:
        for process in processes:
            process.kill()
            process.join()
        for receiver in receivers:
            receiver.close()


def _start(function, tasks, processes, receivers):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    receivers.append(receiver)
    process = context.Process(target=_run, args=(function, tasks, sender, list(receivers)), daemon=True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child has its own handlers
    try:
        process.start()
        processes.append(process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sender.close()


def _results(receivers, num_tasks):
    for i in range(num_tasks):
        try:
            result, error = receivers[i % len(receivers)].recv()
        except EOFError:
            raise UserError("A worker process died, perhaps for lack of memory; try fewer of them.") from None
        if error is not None:
            raise error
        yield result


def _run(function, tasks, sender, receivers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for receiver in receivers:
        receiver.close()  # so that sending fails when the parent is no more
    with contextlib.suppress(BrokenPipeError):
        for task in tasks:
            try:
                message = function(task), None
            except Exception as error:
                message = None, error
            sender.send(message)
