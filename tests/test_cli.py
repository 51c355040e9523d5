# SPDX-License-Identifier: GPL-3.0-or-later
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from absl import flags

from sqair import cli
from sqair.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture()
def values():
    values = flags.FlagValues()
    flags.DEFINE_integer("batch_size", 32, "Sequences.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Seed.", flag_values=values)
    flags.DEFINE_float("learning_rate", 1e-5, "Rate.", flag_values=values)
    flags.DEFINE_string("run_name", "run", "Name.", flag_values=values)
    flags.DEFINE_boolean("resume", False, "Continue the\n last run.", flag_values=values)
    flags.DEFINE_boolean("eval_on_train", True, "Evaluate.", flag_values=values)
    flags.DEFINE_enum("opt", "rmsprop", ["rmsprop", "adam"], "Optimiser.", flag_values=values)
    flags.DEFINE_list("schedule", ["4", "6"], "Parts.", flag_values=values)
    return values


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ("", dict(batch_size=32, resume=False, run_name="run")),
        ("--batch_size=3 --learning_rate=.5", dict(batch_size=3, learning_rate=0.5)),
        ("--batch_size 3 -learning_rate 2", dict(batch_size=3, learning_rate=2.0)),
        ("--seed -4", dict(seed=-4)),
        ("--resume --noeval_on_train", dict(resume=True, eval_on_train=False)),
        ("--resume=true --eval_on_train=False", dict(resume=True, eval_on_train=False)),
        ("--resume True --eval_on_train false --seed 3", dict(resume=True, eval_on_train=False, seed=3)),
        ("--resume yes --eval_on_train 0", dict(resume=True, eval_on_train=False)),
        ("--resume --seed 1", dict(resume=True, seed=1)),
        ("--opt adam --schedule 1,2,3", dict(opt="adam", schedule=["1", "2", "3"])),
        ("--run_name -odd-", dict(run_name="-odd-")),
        ("--run_name= --seed=1 --seed=2", dict(run_name="", seed=2)),
    ],
)
def test_what_is_taken(values, arguments, expected):
    cli.parse(["program"] + arguments.split(), values)
    assert {name: getattr(values, name) for name in expected} == expected


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ("--batchsize=3", "Unknown flag --batchsize; did you mean --batch_size?"),
        ("--batch-size=3", "Unknown flag --batch-size; did you mean --batch_size?"),
        ("--BATCH_SIZE=3", "did you mean --batch_size?"),
        ("--lerning_rate 3", "did you mean --learning_rate?"),
        ("--norsume", "did you mean --noresume?"),
        ("--nobatch_size", "Unknown flag --nobatch_size; did you mean --batch_size?"),
        ("--zzz", "Unknown flag --zzz"),
        ("--log_dir=there", "Unknown flag --log_dir"),  # a flag of absl's that would do nothing
        ("--batch_size=many", "--batch_size=many is refused: it takes a positive integer."),
        ("--batch_size=3.5", "--batch_size=3.5 is refused"),
        ("--batch_size=0", "--batch_size=0 is refused: it takes a positive integer."),
        ("--batch_size=", "--batch_size= is refused"),
        ("--seed=1e3", "--seed=1e3 is refused: it takes an integer."),
        ("--learning_rate=fast", "--learning_rate=fast is refused: it takes a number."),
        ("--learning_rate=nan", "--learning_rate=nan is refused: it takes a finite number."),
        ("--learning_rate=-inf", "it takes a finite number."),
        ("--resume=perhaps", "--resume=perhaps is refused: it takes true or false."),
        ("--resume perhaps", "Argument 'perhaps' belongs to no flag"),
        ("--opt=sgd", "--opt=sgd is refused: it takes one of rmsprop, adam."),
        ("--batch_size", "--batch_size has no value; write --batch_size=value."),
        ("--run_name --resume", "--run_name has no value"),
        ("train", "Argument 'train' belongs to no flag"),
        ("--seed=1 train --seed=2", "Argument 'train' belongs to no flag"),
        ("-- --seed=2", "Argument '--seed=2' belongs to no flag"),
        ("--flagfile=/nowhere/flags", "Unable to open flagfile"),
    ],
)
def test_what_is_refused(values, arguments, sentence):
    with pytest.raises(UserError) as caught:
        cli.parse(["program"] + arguments.split(), values)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_flags_own_check_is_quoted(values):
    flags.register_validator("seed", lambda seed: seed != 13, "13 brings bad luck.", values)
    with pytest.raises(UserError, match="--seed=13 is refused: 13 brings bad luck"):
        cli.parse(["program", "--seed=13"], values)


def test_help(values):
    text = cli.help_text("/somewhere/program.py", values)
    assert text.startswith("usage: program.py [--flag=value ...]")
    for part in (
        "  --batch_size (default 32)\n      Sequences.",
        "  --[no]resume (default false)\n      Continue the last run.",
        "  --schedule (default 4,6)",
        "<rmsprop|adam>: Optimiser.",
    ):
        assert part in text


def test_own_flags(values):
    assert set(cli.own_flags(values)) == set(values)
    assert "log_dir" not in cli.own_flags() and "flagfile" not in cli.own_flags()


@pytest.mark.parametrize(
    "error, status, text",
    [
        (UserError("The moon is too far."), 2, "The moon is too far.\n"),
        (UserError("`distance=9` is refused; see `load`."), 2, "--distance=9 is refused; see `load`.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (KeyboardInterrupt("Saved."), 130, "Saved.\n"),
    ],
)
def test_errors_become_exit_statuses(capsys, monkeypatch, error, status, text):
    monkeypatch.setattr(
        cli,
        "own_flags",
        lambda *_: {"distance": flags.Flag(flags.ArgumentParser(), None, "distance", None, "")},
    )

    def main(flags):
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(main, argv=["program"])
    assert caught.value.code == status
    assert capsys.readouterr() == ("", text)


def test_mistakes_of_ours_keep_their_traceback():
    def main(flags):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main, argv=["program"])


@pytest.mark.parametrize("status", [None, 0, 3])
def test_status_of_main(status):
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda flags: status, argv=["program"])
    assert caught.value.code == status


def config(folder, name, text):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


GOOD = """
    '''Cheese.'''
    from absl import flags
    flags.DEFINE_integer('{0}', 5, 'Number of cheeses.')
    def load(flags):
        return flags.{0}
    """


SCRIPT = """
    '''Eats cheese.

    All of it.
    '''
    from absl import flags
    from sqair import cli
    flags.DEFINE_string('config', 'cheese.py', 'Config file.')
    with cli.group('Appetite'):
        flags.DEFINE_integer('hunger', 2, 'How hungry.')
    if __name__ == '__main__':
        cli.run(lambda flags, config: print(flags.hunger * config.load(flags)), configs=['config'])
    """


def test_a_script_with_configs(tmp_path):
    """One process for each way to start it."""
    config(tmp_path, "cheese.py", GOOD.format("cheeses"))
    config(tmp_path, "other.py", GOOD.format("others"))
    script = config(tmp_path, "eat.py", SCRIPT)

    def eat(*arguments):
        environment = {**os.environ, "PYTHONPATH": ROOT}
        done = subprocess.run(
            [sys.executable, script, *arguments],
            cwd=str(tmp_path),
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    assert eat("--hunger=3", "--cheeses=4") == (0, "12\n", "")
    assert eat("--config", "other.py", "--others=1") == (0, "2\n", "")
    assert eat("--config=other.py", "--cheeses=1") == (
        2,
        "",
        "Unknown flag --cheeses; did you mean --others? (--help lists all flags.)\n",
    )
    status, out, err = eat("--hunger=3", "--help", "--config=other.py")
    assert (status, err) == (0, "")
    positions = [out.index(part) for part in ("usage: eat.py", "All of it.", "Flags of eat.py:", "--config")]
    assert positions == sorted(positions)
    assert "Appetite:\n  --hunger (default 2)" in out
    assert "Cheese (other.py):\n  --others (default 5)\n      Number of cheeses." in out
    status, out, err = eat("--config=")
    assert (status, out) == (2, "") and err.startswith("--config is empty")


@pytest.mark.parametrize(
    "message, said", [((), "Interrupted.\n"), (("Nothing was written.",), "Nothing was written.\n")]
)
def test_sigterm_is_taken_as_an_interruption(message, said, capsys):
    def main(_):
        cli.take_sigterm_as_interrupt(*message)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            cli.run(main, argv=["program"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 130 and capsys.readouterr().err == said
