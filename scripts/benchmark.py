#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures speed and memory of training and evaluation, each configuration in fresh processes.

Times are also given in units, so that they can be compared across machines: a unit is the time of one product of
two 2048 x 2048 float32 matrices (tf.matmul) by TensorFlow's own kernels, on the threads that a training with this
--num_threads gives one operation: half of them, which is one core of two. It is measured in the same process,
before and after each step. Sequences are made from the digits that come with the package. Each row of the table, and
each record of --json, is one configuration:

  step s    seconds of a step: median (fastest-slowest) of all steps; a step of training is an update
  cpu s     seconds of processors that a step took, median: less than above where others keep them, as much as
            all threads together
  R         processes that share a batch, with --num_threads each; memory and times are those of the first
  unit s    seconds of the unit, median
  units     seconds of a step divided by those of the units next to it, median
  objects   mean number of objects per frame and particle, which is what the cost depends on
  build s   seconds until the graph is built and its session has values
  first s   seconds from starting the process to the end of its first step
  nodes     operations in the graph
  peak MB   largest resident memory of the process
  share     multiply-adds that a step takes, at the speed reached, as a share of the matrix product's speed; they are
            known of MLP-SQAIR alone
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, config_files
from sqair.errors import UserError
from sqair.files import atomic_write
from sqair.verification import benchmark as benchmarking

KINDS = ("train", "eval")
flags.DEFINE_list(
    "model_config",
    [benchmarking.MLP_SQAIR],
    "Config files of models, by name or path, with commas between; their other flags are left as they are.",
)
flags.DEFINE_list("kind", list(KINDS), "What to measure: train, eval, or both with a comma between.")
flags.DEFINE_list("seq_len", ["3", "10"], "Numbers of frames T, with commas between, as in the next four.")
flags.DEFINE_list("batch_size", ["32"], "Numbers of sequences B.")
flags.DEFINE_list("k_particles", ["5"], "Numbers of particles K; training takes at least 2.")
flags.DEFINE_list("n_steps_per_image", ["3"], "Numbers of object slots N.")
flags.DEFINE_list("n_units", ["8"], "Hidden units, in multiples of 32.")
flags.DEFINE_list(
    "ranks", ["1"], "Processes that share each batch of a training; more than one are started by horovodrun."
)
flags.DEFINE_float(
    "disc_step_bias",
    1.0,
    "Logit of discovering an object at initialisation, where all is measured. Lower values give fewer objects, "
    "as a trained model has them: the table shows how many.",
)
flags.DEFINE_boolean("compact", True, "Compute only the objects that exist.")
flags.DEFINE_integer(
    "steps", 20, "Steps to time in each process, after the first few, which are not counted.", lower_bound=1
)
flags.DEFINE_integer(
    "repeats",
    2,
    "Processes for each configuration, one after the other; their steps are joined.",
    lower_bound=1,
)
flags.DEFINE_boolean(
    "scaling", False, "Measure also how cost grows: T, B, K and N, the first given of each, doubled in turn."
)
flags.DEFINE_integer("num_threads", 0, "Threads of TensorFlow; 0: all cores.", lower_bound=0)
flags.DEFINE_string("json", None, "File to write the list of records to.")

DOUBLED = ("seq_len", "batch_size", "k_particles", "n_steps_per_image")
SWEPT = (*DOUBLED, "n_units", "ranks")
RANK_0 = "[0]"  # begins its lines where horovodrun passes them on
HEADER = (
    "kind    T   B  K  N  units  R |  step s (min-max)      cpu s  unit s  units | objects | build s  first s  nodes"
    "  peak MB  share  model"
)
ROW = (
    "{kind:5} {seq_len:3} {batch_size:3} {k_particles:2} {n_steps_per_image:2} {n_units:6} {ranks:2} | "
    "{step_seconds:7.3f} ({step_seconds_min:.3f}-{step_seconds_max:.3f}) {cpu_seconds:7.3f} {unit_seconds:7.3f} "
    "{units:6.2f} | {objects_per_frame:7.2f} | {build_seconds:7.1f} {first_step_seconds:8.1f} {graph_nodes:6} "
    "{megabytes:8.0f} {share:>6}  {model_config}"
)


def main(flags):
    cli.take_sigterm_as_interrupt()
    kinds, sizes, doubled = chosen(flags)
    models = models_of(flags.model_config)
    if flags.json is not None:
        check_writable(flags.json)
    fixed = {name: getattr(flags, name) for name in ("disc_step_bias", "compact", "steps", "num_threads")}
    records = {}
    with tempfile.TemporaryDirectory() as folder:
        print(HEADER, flush=True)
        for model, kind, size in itertools.product(models, kinds, dict.fromkeys(sizes + doubled)):
            configuration = dict(zip(SWEPT, size), model_config=model, kind=kind, **fixed)
            measurements = [measure_in_new_process(configuration, folder) for _ in range(flags.repeats)]
            record = records[model, kind, size] = benchmarking.summarise(configuration, measurements)
            print(row(record), flush=True)
    for model, kind in itertools.product(models, kinds if flags.scaling else ()):
        print(f"\n{kind}: how cost grows" + (f", {model}" if len(models) > 1 else ""))
        for name, size in zip(DOUBLED, doubled):
            print(growth(name, records[model, kind, sizes[0]], records[model, kind, size]))
    if flags.json is not None:
        with atomic_write(flags.json) as file:
            json.dump(list(records.values()), file, indent=1)
            file.write("\n")


def chosen(flags):
    """What to measure: kinds; tuples of the sizes in `SWEPT`; such tuples, each with one of `DOUBLED` doubled.

    Raises:
        UserError: if a flag can't be used.
    """
    kinds = list(dict.fromkeys(flags.kind))
    if not kinds or set(kinds) - set(KINDS):
        raise UserError(f"--kind={','.join(flags.kind)} is refused: it takes train, eval or train,eval.")
    sizes = list(itertools.product(*[whole_numbers(name, getattr(flags, name)) for name in SWEPT]))
    if "train" in kinds and 1 in [size[SWEPT.index("k_particles")] for size in sizes]:
        raise UserError(
            "--k_particles=1 is refused: training compares each particle with the others; use at least 2, or "
            "--kind=eval."
        )
    if "eval" in kinds and max(size[SWEPT.index("ranks")] for size in sizes) > 1:
        raise UserError(
            f"--ranks={','.join(flags.ranks)} is refused: evaluation is of one; use --kind=train."
        )
    first, doubled = sizes[0], []
    if flags.scaling:
        doubled = [first[:i] + (2 * first[i],) + first[i + 1 :] for i in range(len(DOUBLED))]
    return kinds, sizes, doubled


def models_of(config_flag):
    """What to record of the config files of a flag: their names, or paths.

    Raises:
        UserError: if there is none, or one can't be found.
    """
    if not config_flag:
        raise UserError("--model_config= is refused: it takes names of config files with commas between.")
    return [config_files.name_of(config_files.find(name)) for name in dict.fromkeys(config_flag)]


def row(record):
    """A line of the table."""
    share = record["share_of_matrix_speed"]
    shown = dict(
        record, megabytes=record["peak_rss_bytes"] / 2**20, share="-" if share is None else f"{share:.3f}"
    )
    return ROW.format(**shown)


def whole_numbers(name, texts):
    """The values of a flag: list of positive ints."""
    try:
        values = [int(text) for text in texts]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        given = ",".join(texts)
        raise UserError(f"--{name}={given} is refused: it takes positive whole numbers with commas between.")
    return values


def measure_in_new_process(configuration, folder):
    """One measurement: a dict from `benchmarking.measure`."""
    arguments = json.dumps({"c": configuration, "folder": folder, "began": time.time()})
    command = [sys.executable, "-m", "sqair.verification.benchmark", arguments]
    if configuration["ranks"] > 1:
        command = [
            sys.executable,
            "-m",
            "horovod.runner.launch",
            "-np",
            str(configuration["ranks"]),
            *command,
        ]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "TMPDIR": folder}, **streams)
    try:
        output, errors = process.communicate()
    finally:  # when interrupted, so that nothing goes on
        process.kill()
        process.wait()
    if process.returncode:
        lines = errors.strip().splitlines() or ["no message"]
        lines = [line for line in lines if line.startswith(RANK_0)] or lines
        reason = ([line for line in lines if "Error" in line] or lines)[-1].strip().rstrip(".")
        shown = ", ".join(f"{name}={value}" for name, value in configuration.items())
        raise UserError(f"The measurement of {shown} ended with status {process.returncode}: {reason}.")
    (answer,) = [line for line in output.splitlines() if line.startswith(("{", f"{RANK_0}<stdout>:{{"))]
    return json.loads(answer[answer.index("{") :])


def growth(name, once, twice):
    """A line on what doubling a size did to a step."""
    seconds, units = (twice[key] / once[key] for key in ("step_seconds", "units"))
    return (
        f"  {name:17} {once[name]:3} -> {twice[name]:3}: seconds x {seconds:.2f}, units x {units:.2f}, "
        f"objects {once['objects_per_frame']:.2f} -> {twice['objects_per_frame']:.2f}"
    )


def check_writable(path):
    """Refuses what can't be written before time is spent on measuring."""
    if not path or os.path.isdir(path):
        raise UserError(f"--json={path} is refused: it takes the name of a file.")
    with refusing(path), tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))):
        pass


@contextlib.contextmanager
def refusing(path):
    """Says an error of the system in one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--json={path} is refused: it cannot be written ({error.strerror}); choose a folder that exists and is "
            "writable, on a disk with free space."
        ) from None


if __name__ == "__main__":
    cli.run(main)
