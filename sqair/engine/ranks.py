# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that train one model together: the one door to Horovod.

Rank r of n computes its part of every batch, and one all-reduce makes of all parts' gradients that of the batch. All
ranks do the same in the same order: each of these calls waits for those of the others.
"""

import contextlib
import os
import platform
import signal
import time
import zlib

from sqair.errors import UserError
from sqair.graph_mode import TF2, tf

START = "horovodrun -np 2 .venv/bin/python scripts/train.py --distributed"
SECONDS_TO_END = 3.0  # in which a process that is killed has gone from the list of processes


class Alone:
    """One process that trains by itself."""

    rank, size = 0, 1

    def mean(self, vector):
        """The mean over ranks of a float32 vector, `[n]`: an operation of the graph."""
        return vector

    def highest(self, number):
        """The highest of all ranks' numbers, an int."""
        return number

    def check_same(self, name, content):
        """Refuses to train with what differs between ranks.

        Args:
            name: str, what it is.
            content: bytes.

        Raises:
            UserError: on every rank, if it is not the same on all.
        """

    def connected(self):
        """A context for whatever waits for other ranks; raises `UserError` if one of them is gone."""
        return contextlib.nullcontext()


class Together(Alone):
    """One of several processes that horovodrun started."""

    def __init__(self):
        """Waits until all of them are there.

        Raises:
            UserError: if Horovod is not there, or did not start this process.
        """
        hvd = _horovod()
        hvd.init()
        self.rank, self.size = hvd.rank(), hvd.size()
        self._average = lambda vector: hvd.allreduce(vector, op=hvd.Average, name="mean")
        with tf.Graph().as_default() as graph, tf.device("/cpu:0"):
            self._number = tf.placeholder(tf.int64, [])
            self._highest = hvd.allreduce(self._number, op=hvd.Max, name="highest")
            processes = hvd.allgather(
                tf.constant([[_this_machine(), os.getpid()]], tf.int64), name="processes"
            )
            config = tf.ConfigProto(
                intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}
            )
            self._session = tf.Session(graph=graph, config=config)
            self._processes = self._session.run(processes).tolist()

    def mean(self, vector):
        """As of `Alone`, by one all-reduce."""
        return self._average(vector)

    def highest(self, number):
        """As of `Alone`."""
        with self.connected():
            return int(self._session.run(self._highest, {self._number: number}))

    def check_same(self, name, content):
        """As of `Alone`, by checksums."""
        checksum = zlib.crc32(content)
        if self.highest(checksum) != -self.highest(-checksum):
            raise UserError(
                f"The {self.size} ranks do not start with the same {name}; give all the same flags, data set and code,"
                " and a `results_dir` that they share."
            )

    @contextlib.contextmanager
    def connected(self):
        """As of `Alone`."""
        try:
            yield
        except tf.errors.OpError as error:
            if "orovod" not in error.message and "gloo" not in error.message:
                raise
            raise UserError(
                f"{self._lost()}, and the others cannot go on without it; `resume` goes on from the last checkpoint."
            ) from None

    def _lost(self):
        """The beginning of a sentence on the ranks of this machine that are gone."""
        end = time.time() + SECONDS_TO_END
        while time.time() < end:
            lost = [
                f"rank {rank} (process {process})"
                for rank, (machine, process) in enumerate(self._processes)
                if machine == _this_machine() and not _runs(process)
            ]
            if lost:
                return f"Training stopped: {' and '.join(lost)} has ended"
            time.sleep(0.05)
        return "Training stopped: a rank on another machine has ended"


ALONE = Alone()


@contextlib.contextmanager
def join():
    """Joins the processes that horovodrun started with this one; gives `Together`.

    When it is left, SIGTERM is ignored: the launcher sends it to the others as soon as one process ends with a status
    that is not 0, and they are ending by themselves then.

    Raises:
        UserError: if Horovod is not there, or did not start this process.
    """
    together = Together()
    try:
        yield together
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _horovod():
    if TF2:
        raise UserError(
            "`distributed` needs TensorFlow 1.15: Horovod 0.28.1, which it uses, does not build against 2.21."
        )
    try:
        os.environ.setdefault("HOROVOD_LOG_LEVEL", "fatal")  # what it would say is raised as an error, too
        os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", "600")  # others wait while rank 0 evaluates
        import horovod.tensorflow as hvd
    except ImportError:
        raise UserError(
            "`distributed` needs Horovod, which is not built here: run scripts/setup.sh --horovod."
        ) from None
    if "HOROVOD_SIZE" not in os.environ:
        raise UserError(f"`distributed` is for processes that horovodrun starts: {START}")
    return hvd


def _this_machine():
    return zlib.crc32(platform.node().encode())


def _runs(process):
    """Whether a process of this machine has not ended; one whose end nobody has asked for yet has."""
    import psutil  # comes with Horovod

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
