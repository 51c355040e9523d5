# SPDX-License-Identifier: GPL-3.0-or-later
"""Several ranks train as one: in threads of this process, and as processes that horovodrun starts."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import stub_data_set
from stub_model import StubDataset, StubModel
from stub_ranks import Lockstep

from sqair.engine import ranks
from sqair.errors import UserError
from sqair.graph_mode import TF2, tf
from sqair.model import noise
from sqair.training import checkpoints
from sqair.training.graph import NonFiniteError, TrainingGraph
from sqair.training.reporting import read_metrics
from sqair.training.settings import Settings

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
SCRIPT = os.path.join(ROOT, "scripts", "train.py")
SETTINGS = Settings(
    batch_size=4, k_particles=2, seq_len=2, stage_itr=2, train_itr=8, opt="adam", learning_rate=0.01, l2=0.01,
    clip_norm=0.5, average=0.5, num_threads=1,
)  # fmt: skip


def alone(data, count):
    """The numbers of some updates of one process, and its variables afterwards."""
    graph = TrainingGraph(StubModel, data, SETTINGS)
    try:
        return [graph.update(True) for _ in range(count)], graph.values()
    finally:
        graph.close()


def together(size, data, count, reduce=np.mean):
    """The same of each of several ranks."""
    group = Lockstep(size, lambda rank: TrainingGraph(StubModel, data, SETTINGS, group=rank), reduce)
    try:
        rows = [[update() for update in group.update()] for _ in range(count)]
        return [(list(numbers), graph.values()) for numbers, graph in zip(zip(*rows), group.graphs)]
    finally:
        group.close()


def assert_alike(found, wanted):
    """The same reports and variables apart from how numbers are rounded."""
    for numbers, others in zip(found[0], wanted[0]):
        assert list(numbers) == list(others)
        np.testing.assert_allclose(list(numbers.values()), list(others.values()), rtol=1e-4, atol=1e-6)
    assert set(found[1]) == set(wanted[1])
    for name, value in found[1].items():
        np.testing.assert_allclose(value, wanted[1][name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("size", [2, 4])
def test_parts_of_a_batch_make_one_update(size):
    """Loss, report, clipped gradient, averages and l2 are those of the whole batch, and the same on all ranks."""
    wanted = alone(StubDataset(10), count=5)
    found = together(size, StubDataset(10), count=5)
    assert len(found) == size
    for one in found:
        assert_alike(one, wanted)
        for name, value in one[1].items():
            np.testing.assert_array_equal(value, found[0][1][name], err_msg=name)


class FirstPartOnly(StubDataset):
    """Gives every rank the first part of the data."""

    def batches(self, batch_size, part=(0, 1), **options):
        return super().batches(batch_size, part=(0, part[1]), **options)


def first_part(drawn, index, count, part_of=noise.part_of):
    return part_of(drawn, 0, count)


@pytest.mark.parametrize("mistake", ["a sum for a mean", "no exchange", "data", "noise"])
def test_a_mistake_shows(mistake, monkeypatch):
    """A division by the number of ranks that is forgotten, ranks that go their own way, a part that is not a rank's."""
    reduce = {"a sum for a mean": np.sum, "no exchange": lambda brought, axis: brought[0]}.get(
        mistake, np.mean
    )
    if mistake == "noise":
        monkeypatch.setattr(noise, "part_of", first_part)
    data = FirstPartOnly(10) if mistake == "data" else StubDataset(10)
    found = together(2, data, count=2, reduce=reduce)
    with pytest.raises(AssertionError):
        assert_alike(found[0], alone(StubDataset(10), count=2))


def test_what_is_not_finite_on_one_rank_stops_all_alike():
    data = StubDataset(12, poisoned=6)  # in the second half of the second batch

    def sentence(update):
        with pytest.raises(NonFiniteError) as raised:
            update()
        return raised.value.step, str(raised.value)

    group = Lockstep(2, lambda rank: TrainingGraph(StubModel, data, SETTINGS, group=rank))
    for update in group.update():
        update()
    first, second = map(sentence, group.update())
    group.close()
    assert first == second == sentence(lambda: alone(data, count=2))
    assert first[0] == 1 and first[1].startswith("Update 2 was not applied: these terms are not finite: loss")


def test_a_batch_that_ranks_cannot_share_is_refused():
    group = types.SimpleNamespace(rank=0, size=3)
    with pytest.raises(UserError, match="`batch_size=4` is refused: 3 ranks .* take a multiple of 3"):
        TrainingGraph(StubModel, StubDataset(10), SETTINGS, group=group)


def test_one_process_is_a_group_of_one():
    vector = object()
    assert (ranks.ALONE.rank, ranks.ALONE.size) == (0, 1)
    assert ranks.ALONE.mean(vector) is vector and ranks.ALONE.highest(15) == 15
    ranks.ALONE.check_same("flags", b"any")
    with ranks.ALONE.connected():
        pass


def refused():
    """The sentence of a process that can't join others."""
    with pytest.raises(UserError) as raised, ranks.join(tf.ConfigProto()):
        pass
    return str(raised.value)


def test_without_horovod_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(ranks, "TF2", False)
    monkeypatch.setitem(sys.modules, "horovod", None)
    assert re.match("`distributed` needs Horovod.*scripts/setup.sh --horovod.$", refused())


def test_a_process_that_horovodrun_did_not_start_is_refused(monkeypatch):
    monkeypatch.setattr(ranks, "TF2", False)
    monkeypatch.delenv("HOROVOD_SIZE", raising=False)
    horovod = types.ModuleType("horovod")
    horovod.tensorflow = types.ModuleType("horovod.tensorflow")
    monkeypatch.setitem(sys.modules, "horovod", horovod)
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", horovod.tensorflow)
    assert refused().startswith("`distributed` is for processes that horovodrun starts: horovodrun -np 2")


@pytest.mark.parametrize(
    "known", [None, "{}", "[]", "no JSON", '{"cluster": {"worker": ["a:1"]}, "task": {"index": 1}}']
)
def test_a_process_that_is_told_of_no_others_is_refused(known, monkeypatch):
    monkeypatch.setattr(ranks, "TF2", True)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if known is not None:
        monkeypatch.setenv("TF_CONFIG", known)
    assert refused().startswith(
        "`distributed` needs the addresses of all processes and the number of this one in TF_CONFIG"
    )


DEVICES = """
import os, runpy, sys
from sqair.errors import UserError
train = runpy.run_path(sys.argv[1], run_name="train")
for change, *argv in eval(sys.argv[2]):
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.pop("HOROVOD_LOCAL_RANK", None)
    os.environ.update(change)
    for name in ("gpu", "distributed"):
        train["flags"].FLAGS[name].unparse()
    try:
        train["expanded"](["train.py", *argv])
        print(os.environ["CUDA_VISIBLE_DEVICES"])
    except UserError as error:
        print(error)
"""


def test_processes_of_a_machine_take_a_gpu_each():
    local, given = {"HOROVOD_LOCAL_RANK": "1"}, {"CUDA_VISIBLE_DEVICES": "4,7"}
    cases = [
        (({}, "--gpu=2"), "2"),
        (({},), "0"),
        ((given,), "4,7"),
        ((local, "--distributed"), "1"),
        (({**local, **given}, "--distributed"), "7"),
        (({**local, **given}, "--distributed", "--gpu=2,3"), "3"),
        ((local, "--distributed", "--gpu=-1"), "-1"),
        (({**local, "CUDA_VISIBLE_DEVICES": ""}, "--distributed"), ""),
        ((local, "--distributed", "--gpu=5"), "--gpu=5 is refused: each of more than 1 processes takes one of these."),
    ]  # fmt: skip
    command = [sys.executable, "-c", DEVICES, SCRIPT, repr([case for case, _ in cases])]
    output = subprocess.check_output(command, cwd=ROOT, text=True)
    assert output.split("\n")[:-1] == [wanted for _, wanted in cases]


can_start = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not TF2 and importlib.util.find_spec("horovod") is None, reason="needs scripts/setup.sh --horovod"
    ),
]
STARTER = (
    [sys.executable, os.path.join(TESTS, "two_processes.py")]
    if TF2
    else [sys.executable, "-m", "horovod.runner.launch"]
)


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join((ROOT, TESTS)), "CUDA_VISIBLE_DEVICES": ""}


def output_of(*command):
    """What one process writes that ends well."""
    return subprocess.check_output(command, env=environment(), text=True)


def started(*command):
    """Two ranks of a command; their lines begin with [rank]<stream>."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    return subprocess.Popen([*STARTER, "-np", "2", *command], env=environment(), **pipes)


def lines_of(output, rank):
    """What a rank wrote, line by line."""
    return re.findall(rf"^\[{rank}\]<std(?:out|err)>:(.*)$", output, re.MULTILINE)


PROGRAM = """
import sys
from sqair.engine import ranks
from sqair.errors import UserError
from sqair.graph_mode import tf

with ranks.join(tf.ConfigProto()) as group, group.place():
    mean = group.mean(tf.constant([1.0, 2.0]) * (1 + 2 * group.rank))
    session = group.session(tf.ConfigProto())
    print(session.run(mean).tolist(), group.highest(group.rank), [group.highest(15 * n) for n in (0, 1)])
    group.check_same("weights", b"same")
    try:
        group.check_same("weights", b"of rank %d" % group.rank)
    except UserError as error:
        print(error)
"""


FLAGS = "--batch_size=4 --k_particles=2 --num_threads=1 --report_loss_every=1 --fig_itr=0".split()
STUB = ["--model_config", os.path.join(TESTS, "stub_config.py"), "--log_itr=0"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return stub_data_set.script_set(str(tmp_path_factory.mktemp("data") / "set"), num_train=30)


@pytest.fixture
def command(data_dir, tmp_path):
    """The command line of a training into `tmp_path/NAME/multi_mnist/1`."""

    def command(*flags, name="out", stub=True):
        where = ["--data_dir", data_dir, "--results_dir", str(tmp_path / name)]
        return [sys.executable, SCRIPT, *where, *FLAGS, *(STUB if stub else ()), *flags]

    return command


@pytest.fixture
def folder(tmp_path):
    """The folder of such a run."""
    return lambda name="out": str(tmp_path / name / "multi_mnist" / "1")


class TestProcesses:
    """The same with processes: of Horovod under TensorFlow 1.15, of a cluster of TensorFlow under 2.x."""

    pytestmark = can_start

    def test_ranks_average_agree_and_compare(self):
        output, _ = started(sys.executable, "-c", PROGRAM).communicate()
        for rank in (0, 1):
            numbers, sentence = lines_of(output, rank)
            assert numbers == "[2.0, 4.0] 1 [0, 15]"
            assert sentence.startswith(
                "The 2 ranks do not start with the same weights; give all the same flags"
            )

    def test_two_ranks_train_as_one(self, command, folder):
        """Two with 8 sequences each as one with 16, for 20 updates, to float32's precision; rank 0 alone writes."""
        sizes = "--n_units=1 --n_what=3 --glimpse_size=5 --seq_len=2 --stage_itr=8 --batch_size=16".split()
        more = "--train_itr=20 --learning_rate=1e-4 --disc_step_bias=3 --log_itr=10 --clip_norm=100".split()
        output_of(*command(*sizes, *more, stub=False, name="one"))
        process = started(*command(*sizes, *more, "--distributed", stub=False, name="two"))
        output, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert lines_of(output, 1) == []
        found, wanted = (read_metrics(os.path.join(folder(name), "metrics.csv")) for name in ("two", "one"))
        assert len(wanted) == 20 + 2 * 2
        assert min(row["num_steps"] for row in wanted) > 0.5  # there are objects to differ in
        for row, other in zip(found, wanted):
            assert (row["step"], row["source"]) == (other["step"], other["source"])
            names = [name for name in other if name not in ("step", "source")]
            pair = [[one[name] for name in names] for one in (row, other)]
            np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-5)
        values, others = (self.values(folder(name), 20) for name in ("two", "one"))
        for name in others:
            np.testing.assert_allclose(values[name], others[name], rtol=1e-4, atol=1e-6, err_msg=name)

    def test_a_signal_to_one_rank_saves_and_stops_all_and_any_number_goes_on(self, command, folder):
        process = started(*command("--train_itr=200000", "--save_itr=0", "--distributed"))
        self.signal_rank(process, 1, signal.SIGTERM)
        output, _ = process.communicate()
        assert "Process 0 exit with status code 143" in output
        assert "Process 1 exit with status code 143" in output
        step = checkpoints.latest(os.path.join(folder(), "checkpoints")).step
        assert f"Stopped by SIGTERM at step {step}, and saved" in lines_of(output, 0)[-1]
        again = [
            sys.executable,
            SCRIPT,
            f"--resume_run={folder()}",
            *STUB[:2],
            f"--train_itr={step + 2}",
        ]
        assert f"at step {step}" in output_of(*again)
        process = started(*again[:-1], f"--train_itr={step + 4}", "--distributed")
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        steps = [row["step"] for row in read_metrics(os.path.join(folder(), "metrics.csv"))]
        assert steps == list(range(1, step + 5))

    @pytest.mark.parametrize("lost", [0, 1])
    def test_without_one_rank_the_other_ends_with_a_sentence(self, lost, command, folder):
        process = started(*command("--train_itr=200000", "--save_itr=3", "--distributed"))
        number = self.signal_rank(process, lost, signal.SIGKILL)
        _, errors = process.communicate()
        (sentence,) = lines_of(errors, 1 - lost)
        assert sentence == (
            f"Training stopped: rank {lost} (process {number}) has ended, and the others cannot go on without it;"
            " --resume goes on from the last checkpoint."
        )
        assert checkpoints.latest(os.path.join(folder(), "checkpoints")).step >= 3

    def test_numbers_that_are_not_finite_end_all_ranks(self, command, folder):
        flags = ("--train_itr=6", "--opt=sgd", "--learning_rate=1e30", "--save_itr=1", "--schedule=1")
        _, errors = started(*command(*flags, "--distributed")).communicate()
        (first,), (second,) = lines_of(errors, 0), lines_of(errors, 1)
        assert re.match(r"Update \d was not applied: these terms are not finite: loss", first)
        assert first.split(";")[0] == second.split(";")[0]
        assert "is kept" in first and "change --learning_rate, --clip_norm or --seed" in second

    def test_ranks_with_other_flags_and_batches_that_cannot_be_shared_are_refused(self, command, tmp_path):
        shell = 'exec "$0" "$@" --distributed --seed=$HOROVOD_RANK'
        for arguments, sentence in (
            (("sh", "-c", shell, *command("--train_itr=1")), "The 2 ranks do not start with the same flags"),
            (command("--batch_size=5", "--distributed"), "--batch_size=5 is refused: 2 ranks share it"),
        ):
            _, errors = started(*arguments).communicate()
            said = [line for rank in (0, 1) for line in lines_of(errors, rank) if line != "Terminated"]
            assert said and all(line.startswith(sentence) for line in said)
        assert not (tmp_path / "out").exists()

    @staticmethod
    def values(folder, step):
        checkpoint = checkpoints.latest(os.path.join(folder, "checkpoints"))
        assert checkpoint.step == step
        return checkpoint.values

    @staticmethod
    def signal_rank(process, rank, number):
        """Sends a signal to one rank after some updates; gives its process number."""
        import psutil

        for line in process.stdout:
            if "step 5/" in line:
                break
        else:
            raise AssertionError(process.stderr.read())
        found = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.name().startswith("python") and child.environ().get("HOROVOD_RANK") == str(rank)
        ]
        child = found[-1]
        child.send_signal(number)
        return child.pid
