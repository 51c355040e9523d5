# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.sqair import mlp_sqair
from sqair.verification import benchmark as benchmarking
from sqair.verification.benchmark import Counts, Sizes

TESTS = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(os.path.dirname(TESTS), "scripts", "benchmark.py")
TINY = (
    "--seq_len=2",
    "--batch_size=2",
    "--k_particles=2",
    "--n_steps_per_image=1",
    "--n_units=1",
    "--steps=2",
)
CONFIGURATION = dict(
    model_config=benchmarking.MLP_SQAIR,
    kind="train",
    seq_len=2,
    batch_size=3,
    k_particles=2,
    n_steps_per_image=3,
    n_units=1,
    compact=True,
)
MEASUREMENT = dict(
    build_seconds=1.0,
    first_step_seconds=2.0,
    graph_nodes=7,
    peak_rss_bytes=100,
    image_shape=[50, 50, 1],
    step_seconds=[4.0, 5.0],
    cpu_seconds=[3.0, 4.0],
    unit_seconds=[1.0, 3.0, 2.0],
    objects=[[1.5, 0.5, 1.0], [2.5, 1.0, 1.5]],
)


def run(*arguments, program=(SCRIPT,)):
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        env={**os.environ, "PYTHONPATH": os.path.dirname(SCRIPT)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_both_kinds_from_end_to_end(tmp_path):
    path = tmp_path / "records.json"
    path.write_text("of yesterday")
    status, output, errors = run(*TINY, "--repeats=1", "--json", str(path))
    assert (status, errors) == (0, "")
    assert [line[:5] for line in output.splitlines()] == ["kind ", "train", "eval "]
    assert os.listdir(str(tmp_path)) == ["records.json"]
    records = json.loads(path.read_text())
    assert [record["kind"] for record in records] == ["train", "eval"]
    for record in records:
        sizes = [record[name] for name in ("seq_len", "batch_size", "k_particles", "n_steps_per_image")]
        assert sizes == [2, 2, 2, 1] and record["n_units"] == record["repeats"] == 1 and record["steps"] == 2
        assert 0 < record["step_seconds_min"] <= record["step_seconds"] <= record["step_seconds_max"]
        assert 0 < record["build_seconds"] < record["first_step_seconds"]
        assert 0 <= record["objects_per_frame"] <= 1
        in_all = record["objects_per_frame"] * np.prod(sizes[:3]) * record["steps"]
        assert in_all == pytest.approx(round(in_all), abs=1e-3)  # every particle counts alike, as it costs
        assert record["unit_seconds"] > 0 and record["units"] > 0 and record["peak_rss_bytes"] > 1e8
        speed = record["multiply_adds"] / benchmarking.MATRIX**3 / record["units"]
        assert record["share_of_matrix_speed"] == pytest.approx(speed)
    assert records[0]["graph_nodes"] > records[1]["graph_nodes"] > 1000
    assert records[0]["multiply_adds"] > records[1]["multiply_adds"] > 0  # objects differ


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("horovod") is None, reason="needs scripts/setup.sh --horovod")
def test_ranks_share_a_batch(tmp_path):
    path = str(tmp_path / "records.json")
    status, output, errors = run(
        *TINY, "--kind=train", "--ranks=2", "--num_threads=1", "--repeats=1", "--json", path
    )
    assert (status, errors) == (0, "") and output.count("\ntrain") == 1
    with open(path) as file:
        (record,) = json.load(file)
    assert (record["ranks"], record["batch_size"]) == (2, 2) and record["step_seconds"] > 0


@pytest.mark.parametrize(
    "flag, sentence",
    [
        ("--seq_len=0", "--seq_len=0 is refused: it takes positive whole numbers with commas between."),
        ("--seq_len=3,-1", "--seq_len=3,-1 is refused"),
        ("--batch_size=few", "--batch_size=few is refused"),
        ("--n_units=", "--n_units= is refused"),
        ("--n_steps_per_image=1.5", "--n_steps_per_image=1.5 is refused"),
        ("--k_particles=5,1", "--k_particles=1 is refused: training compares each particle with the others"),
        ("--ranks=1,2", "--ranks=1,2 is refused: evaluation is of one; use --kind=train."),
        ("--kind=train,sleep", "--kind=train,sleep is refused: it takes train, eval or train,eval."),
        ("--kind=", "--kind= is refused"),
        (
            "--model_config=none.py",
            "Config file 'none.py' does not exist; give the path of a Python file or one of",
        ),
        ("--model_config=", "--model_config= is refused: it takes names of config files"),
        ("--steps=0", "--steps=0 is refused: it takes a positive integer."),
        ("--repeats=-1", "--repeats=-1 is refused"),
        ("--num_threads=-1", "--num_threads=-1 is refused"),
        ("--disc_step_bias=nan", "--disc_step_bias=nan is refused: it takes a finite number."),
        ("--json=", "--json= is refused: it takes the name of a file."),
        (f"--json={TESTS}", "is refused: it takes the name of a file."),
        (
            "--json=/nowhere/to/be.json",
            "--json=/nowhere/to/be.json is refused: it cannot be written (No such",
        ),
    ],
)
def test_what_is_refused_before_measuring(flag, sentence):
    status, output, errors = run(flag)
    assert (status, output) == (2, "") and sentence in errors
    assert errors.count("\n") == 1 and errors.endswith(".\n")


def started(folder, **options):
    """The script as the leader of a group of processes, at work on its first measurement."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *TINY, "--json", str(folder / "records.json")],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
        **options,
    )
    assert process.stdout.readline().startswith("kind")
    return process


def test_an_interruption_leaves_nothing(tmp_path):
    process = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "Interrupted.\n")
    assert os.listdir(str(tmp_path)) == []


def test_in_the_background_an_interruption_is_ignored_and_a_termination_leaves_nothing(tmp_path):
    process = started(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    os.killpg(process.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.terminate()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "Interrupted.\n")
    assert os.listdir(str(tmp_path)) == []
    with pytest.raises(ProcessLookupError):  # what it started has ended too
        os.killpg(process.pid, 0)


def test_the_unit_is_a_product_by_tensorflow_on_the_threads_of_a_training(monkeypatch):
    sessions = []

    class Session(tf.Session):
        def __init__(self, graph, config):
            sessions.append((graph, config))
            super().__init__(graph=graph, config=config)

    monkeypatch.setattr(tf, "Session", Session)
    benchmarking.matrix_product(8, num_threads=4)()
    ((graph, config),) = sessions
    (product,) = [op for op in graph.get_operations() if op.type == "MatMul"]
    assert product.outputs[0].shape.as_list() == [8, 8] and product.outputs[0].dtype == tf.float32
    assert config == session_config(4) and config.inter_op_parallelism_threads == 4


PRETENDING = f"""
import benchmark
def measure(configuration, folder):
    sizes = configuration["seq_len"] * configuration["batch_size"]
    return dict({MEASUREMENT!r}, step_seconds=[sizes] * 2, unit_seconds=[2.0] * 3)
benchmark.measure_in_new_process = measure
benchmark.cli.run(benchmark.main)
"""


def test_one_row_and_record_for_each_configuration_and_the_growth(tmp_path):
    path = str(tmp_path / "records.json")
    flags = ("--kind=eval", "--seq_len=3,6", "--repeats=3", "--scaling", "--k_particles=1", "--json", path)
    status, output, errors = run(*flags, program=("-c", PRETENDING))
    assert (status, errors) == (0, "")
    with open(path) as file:
        records = json.load(file)
    assert [record["seq_len"] for record in records] == [3, 6, 3, 3, 3]  # the doubled T is there already
    assert {record["repeats"] for record in records} == {3}
    assert "eval: how cost grows" in output and output.count("\neval ") == 5
    for line in (
        "seq_len             3 ->   6: seconds x 2.00, units x 2.00, objects 2.00 -> 2.00",
        "batch_size         32 ->  64: seconds x 2.00",
        "k_particles         1 ->   2: seconds x 1.00",
        "n_steps_per_image   3 ->   6: seconds x 1.00",
    ):
        assert line in output


def test_a_summary_joins_the_steps_of_all_processes():
    slower = dict(
        MEASUREMENT,
        step_seconds=[12.0],
        cpu_seconds=[9.0],
        unit_seconds=[1.0, 1.0],
        objects=[[2.0, 0.0, 0.0]],
    )
    slower.update(build_seconds=2.0, first_step_seconds=6.0, peak_rss_bytes=300)
    record = benchmarking.summarise(CONFIGURATION, [MEASUREMENT, slower])
    assert record["step_seconds"] == 5 and (record["step_seconds_min"], record["step_seconds_max"]) == (4, 12)
    assert record["units"] == 2  # the median of 4 / 2, 5 / 2.5 and 12 / 1
    assert record["unit_seconds"] == 1 and record["cpu_seconds"] == 4 and record["objects_per_frame"] == 2
    assert (record["build_seconds"], record["first_step_seconds"]) == (1.5, 4)
    assert (record["graph_nodes"], record["peak_rss_bytes"], record["repeats"]) == (7, 300, 2)


def test_the_arithmetic_of_other_models_is_not_counted():
    record = benchmarking.summarise(dict(CONFIGURATION, model_config="conv_mnist_model.py"), [MEASUREMENT])
    assert record["multiply_adds"] is None and record["share_of_matrix_speed"] is None


def test_a_model_is_built_with_the_flags_defaults_and_what_is_measured():
    flags = benchmarking.flags_of(
        dict(CONFIGURATION, disc_step_bias=-1.5, n_units=2, steps=3), "mlp_air_model.py"
    )
    assert (flags.n_units, flags.disc_step_bias, flags.n_steps_per_image, flags.compact) == (2, -1.5, 3, True)
    assert (flags.n_what, flags.glimpse_size, flags.debug) == (50, 20, False)


def test_how_often_the_parts_run():
    counts = benchmarking.counts(CONFIGURATION, present=2.0, propagated=0.75, discovered=1.25)
    assert counts == Counts(1.0, 0.75, 2.25, 2.0, 1, 0.5)
    assert benchmarking.counts(dict(CONFIGURATION, seq_len=1), 1.0, 0.0, 2.5).tried == 3
    everything = benchmarking.counts(dict(CONFIGURATION, compact=False), 0.5, 0.0, 0.5)
    assert everything == Counts(3, 3, 3, 3, 1, 0.5)


def test_multiply_adds_of_a_step():
    record = benchmarking.summarise(CONFIGURATION, [dict(MEASUREMENT, objects=[[0.0, 0.0, 0.0]])])
    sizes = Sizes(32, benchmarking.N_WHAT, benchmarking.GLIMPSE, 3, (50, 50, 1))
    parts = benchmarking.multiply_adds(sizes)
    tried, rows, images = [sum(part.values()) for part in (parts.tried, parts.rows, parts.images)]
    assert record["multiply_adds"] == 3 * (12 * (tried + rows) + 6 * images)  # T B K = 12, T B = 6


USES = {  # how often each weight of the model enters a product: for one object, one slot, one row or one image
    "propagation_core/": Counts(1, 0, 0, 0, 0, 0),
    "propagation_prior/": Counts(1, 0, 0, 0, 0, 0),
    "glimpse_encoder/mask/": Counts(1, 0, 0, 0, 0, 0),
    "glimpse_encoder/hidden": Counts(2, 0, 1, 0, 0, 0),
    "glimpse_encoder/statistics/": Counts(2, 0, 1, 0, 0, 0),
    "discovery_core/": Counts(0, 0, 1, 0, 0, 0),
    "sqair_cell/object_summary/": Counts(0, 1, 0, 0, 0, 0),
    "glimpse_decoder/": Counts(0, 0, 0, 1, 0, 0),
    "discovery_prior/autoregressive_normal/where_to_hidden": Counts(0, 0, 0, 0, 2, 0),  # N = 2 slots
    "discovery_prior/autoregressive_normal/readout": Counts(0, 0, 0, 0, 2, 0),
    "discovery_prior/autoregressive_normal/context": Counts(0, 0, 0, 0, 1, 0),
    "discovery_prior/count/": Counts(0, 0, 0, 0, 1, 0),
    "image_encoder/": Counts(0, 0, 0, 0, 0, 1),
}


@pytest.mark.slow
def test_multiply_adds_are_those_of_the_models_weights():
    height, width, channels = shape = (9, 7, 3)
    sizes = Sizes(hidden=32, n_what=3, glimpse=4, n_slots=2, image_shape=shape)
    model = mlp_sqair(np.zeros(shape, np.float32), n_steps_per_image=2, n_what=3, n_units=1, glimpse_size=4)
    sample = noise.draw(0, tf.constant(0, tf.int64), "eval", 1, 2, 2, model.noise)
    model(tf.zeros([1, 2, *shape]), sample)

    expected = np.zeros(len(Counts._fields), int)
    for variable in tf.global_variables():
        name = variable.op.name.replace("sqair/", "", 1)
        if re.search("/[wu][zrh]?$", name):
            (uses,) = [uses for start, uses in USES.items() if name.startswith(start)]
            expected += variable.shape.num_elements() * np.array(uses)
    # Of the input of discovery's RNN, the image and the summary come once for each image and row.
    expected += np.array(Counts(0, 0, -2, 0, 1, 1)) * 32 * 32
    # What has no weights: interpolation, mixing of noise, warp and mask.
    pixels = 4 * 4 * channels
    write = height * width * 4 * channels + 4 * width * 4 * channels
    expected += Counts(2 * 3 * pixels + 4 * 4, 0, 3 * pixels, write, height * width * 3, 0)
    found = benchmarking.multiply_adds(sizes)
    assert [sum(parts.values()) for parts in found] == expected.tolist()
