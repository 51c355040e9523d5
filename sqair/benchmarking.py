# SPDX-License-Identifier: GPL-3.0-or-later
"""One measurement of speed and memory, meant for a fresh process: `python -m sqair.benchmarking CONFIGURATION_JSON`.

Multiply-adds per row (one particle of one sequence in one frame), forward, with D = 256, Z = 50, g = 20 and 50 x 50
pixels, in thousands; a training step does three times as many:

    per propagated object       1,876   (RNN over slots 172, where 200, temporal GRU 473, prior GRU 266, presence 72,
                                         two glimpses 527, mask and first look 118, appearance 64)
    per slot that may discover    645   (RNN 211, where 133, glimpse 262, presence 39)
    per object painted            251   (decoder 181, warp 70), and 79 for its summary
    per row                        33   (the prior's context), and per image 705 (its encoder)
"""

import json
import os
import resource
import statistics
import sys
import time

import numpy as np

MATRIX = 2048


def unit_seconds(matrix):
    """Seconds of one square float32 product of NumPy."""
    start = time.perf_counter()
    matrix.dot(matrix)
    return time.perf_counter() - start


def multiply_adds(c, image_size, n_what, glimpse, propagated, tried, present):
    """Forward multiply-adds of a batch, from the numbers of objects per row and frame.

    Args:
        c: the configuration.
        image_size: ints (H, W); n_what, glimpse: ints Z, g.
        propagated, tried, present: mean numbers per row and frame of objects that were there before, of slots that
            discovery ran, of objects painted.
    """
    d, z, side, (h, w) = 32 * c["n_units"], n_what, glimpse**2, image_size
    look = glimpse * h * w + glimpse**2 * h + side * d + d * d + 2 * d * z
    slot = 2 * z + 8 + 2
    per_object = (z + slot + d + d) * d  # RNN over slots
    per_object += (2 * d + 4) * d + d * d + 8 * d  # where
    per_object += 3 * d * (2 * d + 4 + 2 * z) + 5 * z * d  # temporal GRU, appearance
    per_object += (2 * d + z) * d // 2 + d // 2  # presence
    per_object += 3 * d * (d + z + 4) + d * (1 + 2 * (4 + z))  # prior
    per_object += 2 * look + 128 * (2 * d + 4 + side)
    per_try = (2 * d + z + 5 + d) * d + 2 * d * d + 8 * d + look + (d + z) * d // 2 + d // 2
    per_painted = z * d + d * d + d * side + glimpse**2 * w + glimpse * h * w + (z + 4) * d + d * d
    per_row = propagated * per_object + tried * per_try + present * per_painted + (d + 5) * 128
    frames = c["seq_len"] * c["batch_size"]
    return int(frames * (c["k_particles"] * per_row + (h * w + d) * d))


def measure(c):
    """Measures one configuration; returns its record (dict)."""
    began = process_start()
    from sqair.data import mnist, moving_mnist
    from sqair.data.pipeline import SequenceDataset
    from sqair.evaluation import Evaluator
    from sqair.model import SQAIR
    from sqair.settings import Settings
    from sqair.training_graph import TrainingGraph

    folder = os.path.join(c["folder"], str(c["seq_len"]))
    prepared = 0.0
    if not os.path.exists(folder):
        start = time.perf_counter()
        options = moving_mnist.Options(seq_len=c["seq_len"])
        moving_mnist.create(folder, mnist.load_bundle(), options, 40 * c["batch_size"], 1, 0, 1)
        prepared = time.perf_counter() - start
    data = SequenceDataset(folder, "train")
    settings = Settings(
        batch_size=c["batch_size"],
        k_particles=c["k_particles"],
        seq_len=0,
        stage_itr=0,
        num_threads=c["num_threads"],
    )

    def make_model():
        names = ("n_steps_per_image", "n_units", "disc_step_bias", "compact")
        return SQAIR(data.mean_image(), **{name: c[name] for name in names})

    if c["kind"] == "train":
        graph = TrainingGraph(make_model, data, settings)
        step = lambda: graph.update(True)  # noqa: E731
        nodes = len(graph.graph.get_operations())
    else:
        evaluator = Evaluator(make_model, {"valid": data}, settings)
        step, nodes = evaluator.stepper("valid"), evaluator.graph_nodes
    numbers = step()
    first = time.time() - began - prepared
    matrix = np.random.RandomState(0).rand(MATRIX, MATRIX).astype(np.float32)
    unit_seconds(matrix)
    seconds, units, means = [], [], []
    for _ in range(c["steps"]):
        start = time.perf_counter()
        numbers = step()
        seconds.append(time.perf_counter() - start)
        units.append(unit_seconds(matrix))
        means.append([numbers[name] for name in ("num_steps", "num_prop_steps", "num_disc_steps")])
    return record(c, data, seconds, units, np.mean(means, 0), first, nodes)


def record(c, data, seconds, units, means, first, nodes):
    """The record of a measurement: the configuration, times, sizes and the share of the matrix speed reached."""
    step, unit = statistics.median(seconds), statistics.median(units)
    present, propagated, discovered = [float(mean) for mean in means]
    before = present * (c["seq_len"] - 1) / c["seq_len"]  # of the present, those with a frame to follow
    tried = min(c["n_steps_per_image"], 1 + discovered)
    count = multiply_adds(c, data.image_shape[:2], 50, 20, max(before, propagated), tried, present)
    count *= 3 if c["kind"] == "train" else 1
    return dict(
        {name: value for name, value in c.items() if name != "folder"},
        step_seconds=step,
        step_seconds_min=min(seconds),
        step_seconds_max=max(seconds),
        unit_seconds=unit,
        units=step / unit,
        first_step_seconds=first,
        graph_nodes=nodes,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        multiply_adds=count,
        share_of_matrix_speed=count / MATRIX**3 / (step / unit),
        objects_per_frame=present,
    )


def process_start():
    """When this process started, in seconds since the epoch."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(sys.argv[1]))) + "\n")
