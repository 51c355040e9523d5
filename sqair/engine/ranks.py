# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that train one model together: the one door to Horovod, and to TensorFlow's own collectives under 2.x.

Rank r of n computes its part of every batch, and one all-reduce makes of all parts' gradients that of the batch. All
ranks do the same in the same order: each of these calls waits for those of the others.
"""

import contextlib
import json
import os
import platform
import signal
import time
import zlib

from sqair.errors import UserError
from sqair.graph_mode import TF2, tf

START = "horovodrun -np 2 .venv/bin/python scripts/train.py --distributed"
SECONDS_TO_END = 3.0  # in which a process that is killed has gone from the list of processes
# What errors say when the connection to a rank is lost, or the rank has ended by itself.
_CONNECTION = (
    "Horovod",
    "horovod",
    "Collective",
    "collective",
    "Connection reset",
    "Socket closed",
    "failed to connect",
)


class Alone:
    """One process that trains by itself."""

    rank, size = 0, 1

    def mean(self, vector):
        """The mean over ranks of a float32 vector, `[n]`: an operation of the graph."""
        return vector

    def highest(self, number):
        """The highest of all ranks' numbers, an int that is at least 0."""
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

    def place(self):
        """A context for the graph that `mean` is an operation of."""
        return contextlib.nullcontext()

    def session(self, config):
        """A `tf.Session` of the default graph, which was made in `place`."""
        return tf.Session(config=config)


class Together(Alone):
    """One of several processes; how they reach each other is left to `_Horovod` and `_Collectives`."""

    def _meet(self, config):
        """Waits until all of them are there."""
        with tf.Graph().as_default(), self.place(), tf.device("/cpu:0"):
            self._number = tf.placeholder(tf.int64, [])
            self._highest = self._reduce_highest(self._number)
            self._agreeing = self.session(config)
        own = [_this_machine(), os.getpid()]
        self._processes = [
            [self.highest(number if rank == self.rank else 0) for number in own] for rank in range(self.size)
        ]

    def highest(self, number):
        """As of `Alone`."""
        with self.connected():
            return int(self._agreeing.run(self._highest, {self._number: number}))

    def check_same(self, name, content):
        """As of `Alone`, by checksums."""
        checksum = zlib.crc32(content)
        if self.highest(checksum) != 2**32 - self.highest(2**32 - checksum):
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
            if not any(part in error.message for part in _CONNECTION):
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
        return "Training stopped: another rank has ended"


class _Horovod(Together):
    """For TensorFlow 1.15."""

    def __init__(self, config):
        self._hvd = _horovod()
        self._hvd.init()
        self.rank, self.size = self._hvd.rank(), self._hvd.size()
        self._meet(config)

    def mean(self, vector):
        """As of `Alone`, by one all-reduce."""
        return self._hvd.allreduce(vector, op=self._hvd.Average, name="mean")

    def _reduce_highest(self, number):
        return self._hvd.allreduce(number, op=self._hvd.Max, name="highest")


class _Collectives(Together):
    """For TensorFlow 2.x: each rank is a server of a cluster, which does what its own sessions want."""

    def __init__(self, config):
        workers, self.rank = _cluster()
        self.size = len(workers)
        self._leader = "/job:worker/replica:0/task:0"
        server_config = self._with_leader(config)
        self._server = tf.distribute.Server({"worker": workers}, "worker", self.rank, config=server_config)
        self._meet(config)

    def mean(self, vector):
        """As of `Alone`, by one all-reduce."""
        return self._reduce(vector, instance_key=1, merge_op="Add", final_op="Div")

    def place(self):
        """As of `Alone`: on this rank of the cluster."""
        return tf.device(f"/job:worker/replica:0/task:{self.rank}")

    def session(self, config):
        """As of `Alone`, with the server of this rank."""
        return tf.Session(self._server.target, config=self._with_leader(config))

    def _reduce_highest(self, number):
        return self._reduce(number, instance_key=2, merge_op="Max", final_op="Id")

    def _reduce(self, tensor, **how):
        return tf.raw_ops.CollectiveReduce(
            input=tensor, group_size=self.size, group_key=1, subdiv_offsets=[0], **how
        )

    def _with_leader(self, config):
        """The config of sessions whose steps rank 0 numbers, so that those of the same number meet."""
        changed = tf.ConfigProto()
        changed.CopyFrom(config)
        changed.experimental.collective_group_leader = self._leader
        return changed


ALONE = Alone()


@contextlib.contextmanager
def join(config):
    """Joins the processes that were started with this one; gives `Together`.

    When it is left, SIGTERM is ignored: a launcher sends it to the others as soon as one process ends with a status
    that is not 0, and they are ending by themselves then.

    Args:
        config: `tf.ConfigProto` of the sessions.

    Raises:
        UserError: if Horovod is not there, or nothing says what the other processes are.
    """
    together = (_Collectives if TF2 else _Horovod)(config)
    try:
        yield together
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _horovod():
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


def _cluster():
    """The addresses of all ranks and the number of this one, which TensorFlow's `TF_CONFIG` says."""
    try:
        known = json.loads(os.environ["TF_CONFIG"])
        workers, index = known["cluster"]["worker"], known["task"]["index"]
        return workers, range(len(workers))[index]
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(
            "`distributed` needs the addresses of all processes and the number of this one in TF_CONFIG, such as"
            ' {"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}.'
        ) from None


def _this_machine():
    return zlib.crc32(platform.node().encode())


def _runs(process):
    """Whether a process of this machine has not ended; one whose end nobody has asked for yet has."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return not os.path.exists("/proc/self/stat")  # where nothing says it
