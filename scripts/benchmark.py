#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures speed and memory of training and evaluation, each configuration in a process of its own.

Times are also given in units of one 2048 x 2048 x 2048 float32 matrix product of NumPy on the same machine at the same
time, so that they can be compared across machines. Sequences are made from the digits that come with the package.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli
from sqair.errors import UserError

flags.DEFINE_list("kind", "train", "What to measure: train, eval, or both with a comma between.")
flags.DEFINE_list("seq_len", "3,10", "Numbers of frames.")
flags.DEFINE_list("batch_size", "32", "Numbers of sequences.")
flags.DEFINE_list("k_particles", "5", "Numbers of particles.")
flags.DEFINE_list("n_steps_per_image", "3", "Numbers of object slots.")
flags.DEFINE_list("n_units", "8", "Hidden units, in multiples of 32.")
flags.DEFINE_float("disc_step_bias", 1.0, "Initial logit of discovering; -3 gives about one object a frame.")
flags.DEFINE_boolean("compact", True, "Compute only the objects that exist.")
flags.DEFINE_integer("steps", 20, "Steps to time, after one that is not counted.", lower_bound=1)
flags.DEFINE_integer("repeats", 1, "Processes per configuration.", lower_bound=1)
flags.DEFINE_boolean("scaling", False, "Measure how cost grows: T, B, K and N doubled in turn.")
flags.DEFINE_integer("num_threads", 0, "Threads of TensorFlow; 0: all cores.", lower_bound=0)
flags.DEFINE_string("json", None, "File to write a list of records to.")

SWEPT = ("seq_len", "batch_size", "k_particles", "n_steps_per_image", "n_units")


def configurations(flags):
    """The configurations to measure: list of dicts."""
    sizes = []
    for name in SWEPT:
        try:
            values = [int(value) for value in getattr(flags, name)]
        except ValueError:
            values = []
        if not values or min(values) < 1:
            given = ",".join(getattr(flags, name))
            raise UserError(
                f"--{name}={given} is refused: it takes positive whole numbers with commas between."
            )
        sizes.append(values)
    unknown = set(flags.kind) - {"train", "eval"}
    if unknown:
        raise UserError(f"--kind={','.join(flags.kind)} is refused: it takes train, eval or train,eval.")
    chosen = [dict(zip(SWEPT, values)) for values in itertools.product(*sizes)]
    if flags.scaling:
        chosen += [dict(chosen[0], **{name: 2 * chosen[0][name]}) for name in SWEPT[:-1]]
    fixed = {name: getattr(flags, name) for name in ("disc_step_bias", "compact", "steps", "num_threads")}
    return [dict(sizes, kind=kind, **fixed) for kind in flags.kind for sizes in chosen]


def main(flags):
    wanted = configurations(flags)
    if flags.json and not os.path.isdir(os.path.dirname(os.path.abspath(flags.json))):
        raise UserError(f"--json={flags.json} is refused: its folder does not exist.")
    records = []
    print(
        "kind   T   B  K  N  units |  step s (min-max)      unit s  units | objects  first s  nodes  peak MB  share"
    )
    with tempfile.TemporaryDirectory() as folder:
        for configuration in itertools.chain.from_iterable([one] * flags.repeats for one in wanted):
            record = measure_in_new_process(configuration, folder)
            records.append(record)
            print(row(record), flush=True)
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump(records, file, indent=1)


def measure_in_new_process(configuration, folder):
    """One record, measured in a fresh process."""
    command = [sys.executable, "-m", "sqair.benchmarking", json.dumps(dict(configuration, folder=folder))]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"The measurement of {configuration} ended with status {done.returncode}: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def row(r):
    """A record as a line of the table."""
    return (
        "{kind:5} {seq_len:3} {batch_size:3} {k_particles:2} {n_steps_per_image:2} {n_units:6} | {step_seconds:6.3f} "
        "({step_seconds_min:.3f}-{step_seconds_max:.3f})  {unit_seconds:6.3f} {units:6.2f} | {objects_per_frame:7.2f} "
        "{first_step_seconds:8.1f} {graph_nodes:6} {megabytes:8.0f} {share_of_matrix_speed:6.2f}"
    ).format(megabytes=r["peak_rss_bytes"] / 2**20, **r)


if __name__ == "__main__":
    cli.run(main)
