# SPDX-License-Identifier: GPL-3.0-or-later
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile

import pytest
import stub_data_set

from sqair.training import checkpoints
from sqair.training.reporting import read_metrics

TESTS = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(os.path.dirname(TESTS), "scripts")
STUB_CONFIG = os.path.join(TESTS, "stub_config.py")
STUB = ("--model_config", STUB_CONFIG, "--fig_itr=0")
TINY = (
    "--n_units=1",
    "--n_what=3",
    "--glimpse_size=5",
    "--seq_len=2",
    "--stage_itr=5",
    "--learning_rate=1e-3",
)
QUICK = (
    "--batch_size=4",
    "--k_particles=2",
    "--num_threads=1",
    "--report_loss_every=1",
    "--eval_size_fraction=0.5",
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return stub_data_set.script_set(str(tmp_path_factory.mktemp("data") / "set"), num_train=30)


@pytest.fixture
def command(data_dir, tmp_path):
    """The command line of a training into `tmp_path/out/multi_mnist/N`, with more flags."""

    def command(*flags):
        start = [sys.executable, os.path.join(SCRIPTS, "train.py"), "--data_dir", data_dir]
        return [*start, "--results_dir", str(tmp_path / "out"), *QUICK, *flags]

    return command


@pytest.fixture
def resume(tmp_path):
    """The command line that goes on with the last run."""

    def resume(*flags):
        start = [sys.executable, os.path.join(SCRIPTS, "train.py"), "--resume"]
        return [*start, "--results_dir", str(tmp_path / "out"), *flags]

    return resume


def environment():
    return {**os.environ, "PYTHONPATH": TESTS, "CUDA_VISIBLE_DEVICES": ""}


def run(arguments, **options):
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


def refused(result):
    """The one sentence of a run that was refused."""
    status, _, errors = result
    assert status == 2, errors
    assert errors.count("\n") == 1 and errors.endswith((".\n", ".)\n")), errors
    return errors


@contextlib.contextmanager
def running(arguments, until):
    """A training that has just written a line that starts with `until`; it is gone afterwards."""
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    try:
        for line in process.stdout:
            if line.startswith(until):
                break
        else:
            raise AssertionError(process.stderr.read())
        yield process
    finally:
        process.kill()
        process.communicate()


def folder_of(tmp_path, number=1):
    return str(tmp_path / "out" / "multi_mnist" / str(number))


def rows(folder):
    return {(row["step"], row["source"]): row for row in read_metrics(os.path.join(folder, "metrics.csv"))}


def content_of(path):
    with open(path, "rb") as file:
        return file.read()


def files_of(folder):
    """Every file of a folder with its content."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            found[os.path.join(parent, name)] = content_of(os.path.join(parent, name))
    return found


@pytest.mark.slow
def test_a_killed_run_of_the_model_goes_on_bit_for_bit(command, resume, tmp_path):
    flags = ("--train_itr=6", "--log_itr=6", "--fig_itr=6", "--save_itr=3", "--schedule=1", *TINY)
    status, output, errors = run(command(*flags))
    assert (status, errors) == (0, "")
    assert "step 6/6: T 3, bound" in output
    with running(command(*flags), until="step 5/6"):
        pass  # kill -9
    assert checkpoints.latest(os.path.join(folder_of(tmp_path, 2), "checkpoints")).step == 3
    status, output, errors = run(resume())
    assert (status, errors) == (0, "") and "Resuming" in output and "at step 3" in output
    whole, parts = folder_of(tmp_path, 1), folder_of(tmp_path, 2)
    assert len(rows(whole)) == 6 + 2 and rows(parts) == rows(whole)
    last = [checkpoints.latest(os.path.join(folder, "checkpoints")).values for folder in (whole, parts)]
    assert all((last[0][name] == last[1][name]).all() for name in last[0])
    for name in ("tracking-6.png", "glimpses-6.png"):
        pictures = [content_of(os.path.join(folder, "figures", name)) for folder in (whole, parts)]
        assert pictures[0] == pictures[1] != b""
    stored = json.loads(content_of(os.path.join(whole, "flags.json")))
    assert stored["n_units"] == 1 and stored["schedule"] == ["1"] and stored["train_itr"] == 6
    assert (stored["data_config"], stored["model_config"]) == ("seq_mnist_data.py", "mlp_mnist_model.py")
    assert sorted(os.listdir(os.path.join(whole, "configs"))) == ["data_config.py", "model_config.py"]


def test_a_signal_saves_and_leaves_a_run_to_resume(command, resume, tmp_path):
    folder, steps = folder_of(tmp_path), []
    first = command(*STUB, "--train_itr=200000", "--save_itr=0", "--log_itr=0")
    again = resume(*STUB, "--train_itr=300000", "--learning_rate=0.5", "--resume_run=1")
    for arguments, number, status in ((first, signal.SIGTERM, 143), (again, signal.SIGINT, 130)):
        with running(arguments, until="step ") as process:
            process.send_signal(number)
            output, errors = process.communicate()
            assert (process.returncode, errors) == (status, "")
        steps.append(checkpoints.latest(os.path.join(folder, "checkpoints")).step)
        assert f"Stopped by {number.name} at step {steps[-1]}, and saved" in output.splitlines()[-1]
        assert output.endswith(f"--resume_run={folder} --model_config={STUB_CONFIG}\n")
    assert 0 < steps[0] < steps[1]
    assert [step for step, _ in rows(folder)] == list(range(1, steps[1] + 1))
    changed = json.loads(content_of(os.path.join(folder, "run.json")))["sessions"][1]["changed"]
    assert changed == {"learning_rate": [1e-5, 0.5], "train_itr": [200000, 300000]}


@pytest.mark.slow
def test_a_run_in_use_is_left_alone_and_another_gets_its_own_number(command, resume, tmp_path):
    with running(command(*STUB, "--train_itr=1000000", "--save_itr=0"), until="step 1/"):
        assert "multi_mnist/1 is in use by another process" in refused(run(resume(*STUB)))
        assert run(command(*STUB, "--train_itr=1"))[0] == 0
    assert sorted(os.listdir(str(tmp_path / "out" / "multi_mnist"))) == ["1", "2"]


@pytest.mark.slow
def test_what_cannot_be_resumed_is_said(command, resume, tmp_path):
    assert "There is no run in" in refused(run(resume()))
    assert run(command(*STUB, "--train_itr=2"))[0] == 0
    folder = folder_of(tmp_path)
    before = files_of(folder)
    assert "--n_what=3 differs from the resumed run's 2" in refused(run(resume(*STUB, "--n_what=3")))
    other = str(tmp_path / "other.py")
    with open(other, "wb") as file:
        file.write(content_of(os.path.join(TESTS, "stub_config.py")) + b"# changed")
    assert f"--model_config={other} differs from the resumed run's" in refused(
        run(resume("--model_config", other))
    )
    assert files_of(folder) == before
    stored = json.loads(content_of(os.path.join(folder, "flags.json")))
    with open(os.path.join(folder, "flags.json"), "w") as file:
        json.dump(dict(stored, n_what=3), file)  # as if the checkpoint came from elsewhere
    assert "Variable prior/unused has shape [2] in" in refused(run(resume(*STUB, "--train_itr=3")))


@pytest.mark.slow
def test_nothing_of_a_run_folder_is_executed(command, resume, tmp_path):
    assert run(command("--train_itr=1", "--save_itr=0", "--log_itr=0", "--fig_itr=0", *TINY))[0] == 0
    folder = folder_of(tmp_path)
    evaluate = [sys.executable, os.path.join(SCRIPTS, "evaluate.py"), f"--run={folder}", "--num_sequences=3"]
    attack = os.path.join(folder, "configs", "model_config.py")
    with open(attack, "w") as file:
        file.write("import os; os._exit(99)")
    with open(os.path.join(folder, "more_flags"), "w") as file:
        file.write(f"--model_config={attack}\n")
    path = os.path.join(folder, "flags.json")
    stored = json.loads(content_of(path))
    for changes in (
        {"flagfile": os.path.join(folder, "more_flags")},
        {"-model_config": attack},
        {"resume_run": attack, "gpu": "7"},
    ):
        with open(path, "w") as file:
            json.dump(dict(stored, **changes), file)
        assert run(evaluate)[0] == 0
        refused(run(resume("--train_itr=2")))  # its record of the config differs, if nothing else
    with open(path, "w") as file:
        json.dump(dict(stored, model_config=attack), file)
    sentence = (
        f"Run {folder} was made with the config file {attack}, which is executed only if you name it: give "
    )
    for arguments in (evaluate, resume("--train_itr=2")):
        assert refused(run(arguments)).startswith(sentence + "--model_config (the run keeps a copy to read, ")


@pytest.mark.slow
def test_a_config_of_the_user_has_to_be_named_again(command, resume, tmp_path):
    assert run(command(*STUB, "--train_itr=1"))[0] == 0
    folder = folder_of(tmp_path)
    assert json.loads(content_of(os.path.join(folder, "flags.json")))["model_config"] == STUB_CONFIG
    sentence = f"was made with the config file {STUB_CONFIG}, which is executed only if you name it: give "
    assert sentence + "--model_config" in refused(run(resume("--train_itr=2")))
    moved = os.path.join(folder, "configs", "model_config.py")
    status, output, errors = run(resume("--train_itr=2", "--model_config", moved))
    assert (status, errors) == (0, "") and "Trained to step 2" in output


@pytest.mark.slow
def test_nothing_finite_stops_with_a_sentence_and_the_last_good_checkpoint(command, resume, tmp_path):
    flags = (*STUB, "--train_itr=6", "--opt=sgd", "--learning_rate=1e30", "--save_itr=1", "--schedule=1")
    sentence = refused(run(command(*flags)))
    assert "was not applied: these terms are not finite: loss, normalised_vae" in sentence
    assert "decoder/colour" in sentence and "change --learning_rate, --clip_norm or --seed" in sentence
    kept = checkpoints.latest(os.path.join(folder_of(tmp_path), "checkpoints"))
    assert kept.path + ", is kept" in sentence
    status, output, errors = run(resume(*STUB))
    assert status == 2 and "With the same settings this will happen again" in output
    assert f"Update {kept.step + 1} was not applied" in errors


@pytest.mark.slow
def test_flags_that_cannot_work_leave_nothing_behind(command, tmp_path):
    assert "Unknown flag --learning_rat; did you mean --learning_rate?" in refused(
        run(command(*STUB, "--learning_rat=1"))
    )
    assert "nowhere" in refused(run(command(*STUB, "--data_dir=nowhere")))
    assert "--batch_size=31 is refused: there are 30" in refused(run(command(*STUB, "--batch_size=31")))
    assert not (tmp_path / "out").exists()


UNPRIVILEGED = """
import os, runpy, sys
sys.path[:0] = sys.argv[1:3]
from sqair.training import runs
create = runs.create
def create_unprivileged(*arguments):
    was_root = os.geteuid() == 0  # whom permissions do not hold
    if was_root:
        os.seteuid(65534)
    try:
        return create(*arguments)
    finally:
        if was_root:
            os.seteuid(0)
runs.create = create_unprivileged
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_folder_that_is_read_only_is_said(command):
    with tempfile.TemporaryDirectory() as parent:  # pytest's own folders are closed to others
        os.chmod(parent, 0o555)
        python, *arguments = command(*STUB, "--train_itr=1", f"--results_dir={parent}")
        sentence = refused(run([python, "-c", UNPRIVILEGED, os.path.dirname(TESTS), SCRIPTS, *arguments]))
        assert f"{parent}/multi_mnist cannot be written: Permission denied" in sentence
        assert os.listdir(parent) == []


@pytest.mark.slow
def test_a_file_size_limit_is_said_and_what_was_saved_stays(command, resume, tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    assert run(command(*STUB, "--train_itr=2", "--log_itr=0"))[0] == 0
    folder = os.path.join(folder_of(tmp_path), "checkpoints")
    before = files_of(folder)
    sentence = refused(run(resume(*STUB, "--train_itr=4"), preexec_fn=limited))
    assert "model-4 cannot be written: File too large" in sentence
    assert files_of(folder) == before


@pytest.mark.slow
def test_what_resume_and_test_run_imply_stands_between_the_flags_of_a_shell_script_and_the_users(
    command, tmp_path
):
    of_script = ("--run_name=fast", "--train_itr=9", "--l2=0.5", "--seed=3", "--")
    assert run(command(*of_script, *STUB, "--test_run", "--log_itr=0", "--seed=4", "--l2=0.25"))[0] == 0
    folder = str(tmp_path / "out" / "test_run" / "1")

    def used(*names):
        with open(os.path.join(folder, "flags.json")) as file:
            stored = json.load(file)
        return [stored[name] for name in names]

    assert used("train_itr", "log_itr", "seed", "l2") == [4, 0, 4, 0.25]
    again = ("--", "--run_name=test_run", *STUB, "--resume", "--train_itr=5")
    assert run(command(*of_script, *again))[0] == 0  # l2, which may not change, is the run's
    assert used("train_itr", "log_itr", "seed", "l2") == [5, 0, 4, 0.25]


def test_help_is_grouped(command):
    status, output, errors = run(command(*STUB, "--help"))
    assert (status, errors) == (0, "")
    for text in (
        "Run:",
        "Training:",
        "Reports:",
        "--learning_rate (default 1e-05)",
        "--[no]resume (default false)",
    ):
        assert text in output, text


@pytest.mark.slow
def test_a_killed_run_goes_on_on_several_threads(command, resume, tmp_path):
    flags = ("--train_itr=8", "--log_itr=0", "--fig_itr=0", "--save_itr=3", *TINY, "--num_threads=0")
    assert run(command(*flags))[0] == 0
    with running(command(*flags), until="step 5/8"):
        pass
    assert run(resume())[0] == 0
    whole, parts = rows(folder_of(tmp_path, 1)), rows(folder_of(tmp_path, 2))
    assert list(whole) == list(parts)
    for key, row in whole.items():
        assert parts[key]["loss"] == pytest.approx(row["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, runs", [("train_multi_mnist.sh", 1), ("train_fast.sh", 1), ("train_mnist_mot.sh", 3)]
)
def test_a_test_run_of_a_shell_script(data_dir, tmp_path, name, runs):
    flags = ("--test_run", "--data_dir", data_dir, f"--results_dir={tmp_path}", *TINY, *QUICK[:2])
    done = subprocess.run(
        [os.path.join(SCRIPTS, name), *flags],
        env=dict(environment(), PYTHON=sys.executable),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(str(tmp_path / "test_run"))) == [str(n + 1) for n in range(runs)]
    assert (4, "valid") in rows(str(tmp_path / "test_run" / str(runs)))
