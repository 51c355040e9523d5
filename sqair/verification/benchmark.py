# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed and memory of training and evaluation: measured in a fresh process, summarised over several.

`python -m sqair.verification.benchmark CONFIGURATION` measures once and prints JSON; `scripts/benchmark.py` starts it
and summarises. A configuration is a dict of `model_config`, `kind` ("train" or "eval"), `seq_len`, `batch_size`,
`k_particles`, `n_steps_per_image`, `n_units`, `ranks`, `disc_step_bias`, `compact`, `steps`, `num_threads`.
"""

import contextlib
import json
import os
import resource
import statistics
import sys
import time
from typing import NamedTuple, Tuple

import numpy as np
from orderedattrdict import AttrDict

from sqair import cli, config_files

MLP_SQAIR = "mlp_mnist_model.py"  # the model whose arithmetic is counted
WARM_UP = 4  # steps that are not counted: memory is still being mapped
MATRIX = 2048  # rows and columns of the float32 product by TensorFlow that is the unit of time
N_WHAT, GLIMPSE = 50, 20  # the flags' defaults
MEASURED = ("n_steps_per_image", "n_units", "disc_step_bias", "compact")  # other flags are left as they are
NUM_SEQUENCES = 512  # that the measured batches are taken from, again and again
BACKWARD = 2  # multiply-adds of a backward pass for each of the forward pass: by inputs and by weights


class Sizes(NamedTuple):
    """What the arithmetic of the model depends on."""

    hidden: int  # D
    n_what: int  # Z
    glimpse: int  # g
    n_slots: int  # N
    image_shape: Tuple[int, int, int]  # H, W, C


class Counts(NamedTuple):
    """How often the parts of the model run: mean numbers per row (one particle of one sequence) and frame."""

    propagated: float  # objects of the last frame
    staying: float  # those of them that are still present
    tried: float  # slots that discovery runs: the first of each row, and each after a discovery
    painted: float  # present objects
    rows: float  # 1
    images: float  # 1 / K


def multiply_adds(sizes):
    """Forward multiply-adds of every part, by what it is computed once for.

    Products and bilinear interpolations count, what works element by element does not. Several inputs of a layer
    are added up in the order in which `sqair.model.propagation` and `sqair.model.discovery` name them.

    Args:
        sizes: `Sizes`.

    Returns:
        `Counts` of dicts: part -> int.
    """
    d, z, g, n, (height, width, channels) = sizes
    pixels = g * g * channels
    read = 3 * pixels  # between two pixels above, two below, and both
    look = read + dense(pixels, d, d, 2 * z)
    a_slot = z + 4 + 1  # what, where, presence
    propagated = {
        "place of the first glimpse": dense(d, 128, 4),
        "mask of both glimpses": dense(d, 128, g * g),
        "two glimpses": 2 * look,
        "RNN over slots": dense(z + a_slot + (a_slot + d) + d, d),
        "where": dense(d + (4 + d), d, d, 8) + dense(4, 4),
        "RNN over time": gru(d + 4 + 2 * z, d),
        "what and its gates": dense(d, 2 * z + 3 * z),
        "presence": dense(d + d + z, d // 2, 1),
        "prior": gru(z + 4, d) + dense(d, 1 + 2 * (4 + z)),
    }
    tried = {
        "RNN over slots": dense(a_slot + d, d),
        "where": dense(d, d, d, 8),
        "glimpse": look,
        "presence": dense(d + z, d // 2, 1),
    }
    painted = {
        "glimpse": dense(z, d, d, pixels),
        "warp of columns, then of rows": pixels * width + height * g * width * channels,
    }
    rows = {
        "summary in discovery's RNN": dense(d, d),
        "prior of new locations": dense(4 + d + 1, 128, 4) + n * (dense(4, 4) + dense(4, 8)),
        "prior of the number of new objects": dense(1, 10, n + 1),
        "mask of the canvas": height * (n + 1) * width,
    }
    images = {"encoder": dense(height * width * channels, d, d), "encoding in discovery's RNN": dense(d, d)}
    return Counts(propagated, {"summary": dense(z + 4, d, d)}, tried, painted, rows, images)


def dense(*sizes):
    """Multiply-adds of fully connected layers from the first size to the last."""
    return sum(n * k for n, k in zip(sizes, sizes[1:]))


def gru(inputs, hidden):
    """Multiply-adds of a step of a gated recurrent unit."""
    return 3 * dense(inputs + hidden, hidden)


def counts(c, present, propagated, discovered):
    """`Counts` of a configuration.

    Args:
        c: the configuration.
        present, propagated, discovered: mean numbers of objects per row and frame that are there, of them from the
            last frame, and new. They leave open how many fill the last slot, where no other slot is tried, so that
            `tried` is an upper bound.
    """
    n_slots = c["n_steps_per_image"]
    if not c["compact"]:
        return Counts(n_slots, n_slots, n_slots, n_slots, 1, 1 / c["k_particles"])
    before = present * (c["seq_len"] - 1) / c["seq_len"]  # with a frame to follow
    tried = min(n_slots, 1 + discovered)
    return Counts(max(before, propagated), propagated, tried, present, 1, 1 / c["k_particles"])


def measure(c, folder, began):
    """Builds, warms up and times one configuration in this process.

    Args:
        c: the configuration.
        folder: where data sets for it are, or are made.
        began: when this process was started, seconds since the epoch.

    Returns:
        Dict: `build_seconds` (graph, session and first values), `first_step_seconds` (from the start of the process
        to the end of its first step, with all imports and the building, without making data), `graph_nodes`,
        `peak_rss_bytes` (with 34 MB of the unit's matrices), `image_shape`; for each step `step_seconds` and
        `cpu_seconds` and `objects` (present, propagated, discovered); before the first and after each `unit_seconds`.
    """
    from sqair.engine import ranks
    from sqair.evaluation.evaluator import session_config

    joined = (
        ranks.join(session_config(c["num_threads"]))
        if c["ranks"] > 1
        else contextlib.nullcontext(ranks.ALONE)
    )
    with joined as group:
        return _measure(c, folder, began, group)


def _measure(c, folder, began, group):
    """As `measure`, on one rank of a group, all of which do the same."""
    data, seconds_of_data = _data(c, folder, group)
    step, graph_nodes, build_seconds = _build(c, data, group)
    step()
    result = {"build_seconds": build_seconds, "first_step_seconds": time.time() - began - seconds_of_data}
    product = matrix_product(MATRIX, c["num_threads"])
    unit = lambda: _timed(product)[0]  # noqa: E731
    unit()
    for _ in range(WARM_UP - 1):
        step()
    seconds, cpu_seconds, units, objects = [], [], [unit()], []
    for _ in range(c["steps"]):
        before = time.process_time()
        step_seconds, numbers = _timed(step)
        cpu_seconds.append(time.process_time() - before)
        seconds.append(step_seconds)
        units.append(unit())
        objects.append([float(numbers.get(f"raw_num_{kind}steps", 0.0)) for kind in ("", "prop_", "disc_")])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result.update(step_seconds=seconds, cpu_seconds=cpu_seconds, unit_seconds=units, objects=objects)
    return dict(result, graph_nodes=graph_nodes, peak_rss_bytes=peak, image_shape=data.image_shape)


def matrix_product(size, num_threads):
    """The work that is the unit of time: a function that multiplies two float32 matrices.

    It is done by the kernels and on the threads that training uses, since those of NumPy may be several times
    slower or faster on the same machine. One operation runs on half of the threads (`session_config`): on one core of
    two.

    Args:
        size: int, rows and columns.
        num_threads: int, as in the settings of a training.
    """
    from sqair.evaluation.evaluator import session_config
    from sqair.graph_mode import tf  # here, so that scripts/benchmark.py refuses wrong flags at once

    with tf.Graph().as_default() as graph:
        matrix = tf.get_variable("matrix", [size, size], tf.float32, tf.random_uniform_initializer(seed=0))
        product = tf.matmul(matrix, matrix).op  # of which nothing is fetched
        session = tf.Session(graph=graph, config=session_config(num_threads))
        session.run(matrix.initializer)
    return lambda: session.run(product)


def summarise(c, measurements):
    """The record of a configuration.

    Args:
        c: the configuration.
        measurements: list of dicts from `measure`, one for each process.

    Returns:
        The configuration with medians over the steps of all processes: `step_seconds`, its `_min` and `_max`,
        `cpu_seconds`, `unit_seconds`, `units` (of each step's time divided by the mean of the unit's just before and
        after it); medians over processes: `build_seconds`, `first_step_seconds`; the greatest `peak_rss_bytes`;
        `graph_nodes`; `objects_per_frame`; `multiply_adds` of a step, and the `share_of_matrix_speed` at which it
        does them, both None of other models than MLP-SQAIR.
    """
    over_steps = lambda name: [x for one in measurements for x in one[name]]  # noqa: E731
    over_processes = lambda name: [one[name] for one in measurements]  # noqa: E731
    seconds = over_steps("step_seconds")
    units = statistics.median([ratio for one in measurements for ratio in _in_units(one)])
    objects = np.mean(over_steps("objects"), axis=0)
    counted = c["model_config"] == MLP_SQAIR
    total = _multiply_adds_of_step(c, measurements[0]["image_shape"], objects) if counted else None
    return dict(
        c,
        repeats=len(measurements),
        step_seconds=statistics.median(seconds),
        step_seconds_min=min(seconds),
        step_seconds_max=max(seconds),
        cpu_seconds=statistics.median(over_steps("cpu_seconds")),
        unit_seconds=statistics.median(over_steps("unit_seconds")),
        units=units,
        build_seconds=statistics.median(over_processes("build_seconds")),
        first_step_seconds=statistics.median(over_processes("first_step_seconds")),
        graph_nodes=measurements[0]["graph_nodes"],
        peak_rss_bytes=max(over_processes("peak_rss_bytes")),
        multiply_adds=total,
        share_of_matrix_speed=total / MATRIX**3 / units if counted else None,
        objects_per_frame=float(objects[0]),
    )


def _in_units(measurement):
    """Each step's time in units; other work on the machine slows both, and comes and goes."""
    seconds, units = measurement["step_seconds"], measurement["unit_seconds"]
    return [2 * step / (before + after) for step, before, after in zip(seconds, units, units[1:])]


def _multiply_adds_of_step(c, image_shape, objects):
    sizes = Sizes(32 * c["n_units"], N_WHAT, GLIMPSE, c["n_steps_per_image"], tuple(image_shape))
    pairs = zip(counts(c, *objects), multiply_adds(sizes))
    of_row = sum(count * sum(parts.values()) for count, parts in pairs)
    passes = 1 + BACKWARD if c["kind"] == "train" else 1
    return int(passes * c["seq_len"] * c["batch_size"] * c["k_particles"] * of_row)


def _data(c, folder, group):
    """A `SequenceDataset` of the digits that come with the package, and the seconds that making it took."""
    from sqair.data import mnist, moving_mnist
    from sqair.data.pipeline import SequenceDataset

    path = os.path.join(folder, str(c["seq_len"]))
    seconds = 0.0
    if group.rank == 0 and not os.path.exists(path):
        options = moving_mnist.Options(seq_len=c["seq_len"])
        make = lambda: moving_mnist.create(path, mnist.load_bundle(), options, NUM_SEQUENCES, 1, 0, 1)  # noqa: E731
        seconds, _ = _timed(make)
    group.highest(0)  # the others wait for it
    return SequenceDataset(path, "train"), seconds


def flags_of(c, model_config):
    """What a config file is given in place of parsed flags: `AttrDict` of the defaults and what is measured."""
    config_files.load(model_config)  # defines them
    values = AttrDict({flag.name: flag.default for flag in cli.own_flags().values()}, debug=False)
    values.update({name: c[name] for name in MEASURED if name in c})
    return values


def _build(c, data, group):
    """A function that does the next step and returns its numbers, the nodes of its graph, seconds to build it."""
    from sqair.evaluation.evaluator import Evaluator
    from sqair.training.graph import TrainingGraph
    from sqair.training.settings import Settings

    chosen = {name: c[name] for name in ("batch_size", "k_particles", "num_threads")}
    config, flags = config_files.load(c["model_config"]), flags_of(c, c["model_config"])
    mean_image = data.mean_image()
    make_model = lambda: config.load(flags, mean_image)  # noqa: E731
    start = time.perf_counter()
    if c["kind"] == "train":
        settings = Settings(seq_len=0, stage_itr=0, **chosen)
        training = TrainingGraph(make_model, data, settings, group=group)
        step, nodes = (lambda: training.update(True)), len(training.graph.get_operations())
    else:
        evaluator = Evaluator(make_model, {"valid": data}, Settings(estimator="reinforce", **chosen))
        evaluator.initialise()
        step, nodes = evaluator.stepper("valid"), evaluator.graph_nodes
    return step, nodes, time.perf_counter() - start


def _timed(function):
    """The seconds a function takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(**json.loads(sys.argv[1]))) + "\n")
