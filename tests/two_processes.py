# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts processes of a TensorFlow cluster on this machine and passes on what they write, as horovodrun does.

python two_processes.py -np 2 COMMAND: each finds the others by TF_CONFIG, and its rank in HOROVOD_RANK. All end
with SIGTERM when one ends with a failure.
"""

import json
import os
import socket
import subprocess
import sys
import threading


def free_addresses(count):
    """Addresses on this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return [f"localhost:{port}" for port in ports]


def pass_on(stream, prefix, target):
    for line in stream:
        target.write(prefix + line)
        target.flush()


def main(count, command):
    """Exits with 1 if one of them fails."""
    cluster, processes, threads = {"worker": free_addresses(count)}, [], []
    for rank in range(count):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
        environment = {**os.environ, "TF_CONFIG": config, "HOROVOD_RANK": str(rank)}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(subprocess.Popen(command, env=environment, **pipes))
        for name in ("stdout", "stderr"):
            stream = getattr(processes[-1], name)
            arguments = stream, f"[{rank}]<{name}>:", getattr(sys, name)
            threads.append(threading.Thread(target=pass_on, args=arguments))

    def wait(rank):
        status = processes[rank].wait()
        if status:
            sys.stdout.write(f"Process {rank} exit with status code {status}.\n")
            for other in processes:
                other.terminate()

    threads += [threading.Thread(target=wait, args=[rank]) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return int(any(process.returncode for process in processes))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[2]), sys.argv[3:]))
