#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains SQAIR on image sequences; what it writes goes into a numbered folder, results_dir/run_name/N.

Ctrl-C and SIGTERM save the run (exit status 130 and 143), and --resume continues it as if it had not stopped.
A resumed run takes its flags from its folder; those given again may change learning_rate, clip_norm, seed,
train_itr, the intervals and what is evaluated, and nothing else; config files that do not come with the package
have to be named again. Wrong flags, numbers that are not finite and
files that cannot be written end with one sentence and exit status 2.

Several processes, on one machine or more, share each batch after horovodrun -np 2 .venv/bin/python scripts/train.py
--distributed (docs/scaling.md); any number of them goes on with what any other number began.
"""

import json
import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, config_files
from sqair.errors import UserError
from sqair.training import runs
from sqair.training.settings import DECAYS, ESTIMATORS, OPTIMISERS, Settings, from_flags

CONFIG_FLAGS = ("data_config", "model_config")
# Flags that say where a run is and how it is started; they are not part of it.
RUN_FLAGS = ("results_dir", "run_name", "resume", "resume_run", "test_run", "gpu", "distributed")
RUN_FLAGS += CONFIG_FLAGS
OF_A_RANK = ("data_dir", "num_threads", "debug")  # flags that may differ between processes of a run
CHANGEABLE = ("learning_rate", "clip_norm", "seed", "train_itr", "report_loss_every", "log_itr", "fig_itr")
CHANGEABLE += ("decay", "decay_from", "warmup_itr")
CHANGEABLE += ("save_itr", "eval_on_train", "eval_size_fraction", "log_at_start", "num_threads", "debug")
CHANGEABLE += ("data_dir", *CONFIG_FLAGS)  # sizes and contents are compared instead: files may move
TEST_RUN = {"run_name": "test_run", "train_itr": 4, "report_loss_every": 1, "log_itr": 2, "fig_itr": 2}
TEST_RUN.update(save_itr=2, eval_size_fraction=1e-6, log_at_start=True, decay_from=0)


def define(name, help_text):
    """A flag with the name, type and default of a setting."""
    default = getattr(Settings(), name)
    kinds = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}
    kinds[type(default)](name, default, help_text)


with cli.group("Run"):
    flags.DEFINE_string("data_config", "seq_mnist_data.py", "Config file of the data, by name or path.")
    flags.DEFINE_string("model_config", "mlp_mnist_model.py", "Config file of the model, by name or path.")
    flags.DEFINE_string("results_dir", "results", "Where runs go.")
    flags.DEFINE_string("run_name", "multi_mnist", "Runs of a name are numbered from 1.")
    flags.DEFINE_boolean(
        "resume", False, "Continue the last run of this name at its last complete checkpoint."
    )
    flags.DEFINE_string("resume_run", "", "Continue this run instead of the last: its number, or its folder.")
    flags.DEFINE_boolean("test_run", False, "A run of a few iterations with everything switched on.")
    flags.DEFINE_string("gpu", "0", "The CUDA devices to use, by number with commas between; -1 for none.")
    flags.DEFINE_boolean(
        "distributed",
        False,
        "Share each batch with the processes that horovodrun started, or with those of TF_CONFIG (TensorFlow 2).",
    )
    flags.DEFINE_boolean("debug", False, "Check all that the model returns for numbers that are not finite.")
    define("num_threads", "Threads of TensorFlow; 0: all cores. On one thread a run repeats bit for bit.")
with cli.group("Training"):
    define("train_itr", "Updates to train for.")
    define("batch_size", "Sequences in a batch, which all processes together compute.")
    define("k_particles", "Samples per sequence that the bound averages over; more tighten it and cost time.")
    define("seq_len", "Frames to train on at first; 0: all.")
    define("stage_itr", "Updates after which one frame more is used; 0: never.")
    flags.DEFINE_enum("opt", Settings().opt, OPTIMISERS, "Optimiser.")
    define("learning_rate", "Learning rate at first.")
    flags.DEFINE_list(
        "schedule",
        [str(part) for part in Settings().schedule],
        "Parts of train_itr, in proportion; the rate is divided by 3 at the end of each but the last.",
    )
    flags.DEFINE_enum(
        "decay",
        Settings().decay,
        DECAYS,
        "How the rate falls. steps: by the schedule, as the original's; cosine: half a cosine down to a hundredth.",
    )
    define("decay_from", "Update at which the cosine begins; it ends at train_itr.")
    define("warmup_itr", "Updates over which the rate rises from 0 at first; 0: none.")
    flags.DEFINE_string(
        "init_from",
        "",
        "Folder of a run, or path of a checkpoint, whose weights a new run starts with; its step, optimiser,"
        " settings and what flags fix in the model, as output_std, are not taken over.",
    )
    define("l2", "Weight of half the sum of squares of all parameters in the loss.")
    define("clip_norm", "Largest global norm of the gradient; 0: no limit.")
    define(
        "average",
        "Evaluate averages of the weights over updates, each update's share falling by this factor; 0: no averages.",
    )
    flags.DEFINE_enum(
        "estimator",
        Settings().estimator,
        ESTIMATORS,
        "How presences are learned. reference: the original's, each particle's own log-weight less VIMCO's baseline is"
        " its learning signal; vimco: the published one; reinforce: reference without a baseline.",
    )
    define("seed", "Seed of initial parameters, noise and the order of the data.")
with cli.group("Reports"):
    define("report_loss_every", "Updates between reports of a training batch.")
    define("log_itr", "Updates between evaluations; 0: never.")
    define("eval_on_train", "Evaluate on training data, too.")
    define("eval_size_fraction", "Share of each data set to evaluate on.")
    define("log_at_start", "Evaluate before training.")
    define("fig_itr", "Updates between figures; 0: never.")
    define(
        "save_itr", "Updates between checkpoints to keep; 0: only the last. Every 10 minutes one is replaced."
    )


def main(flags, *configs):
    from sqair.engine import ranks  # imports TensorFlow, which `gpu` has to precede
    from sqair.evaluation.evaluator import session_config

    if not flags.distributed:
        return train(flags, *configs, ranks.ALONE)
    with ranks.join(session_config(flags.num_threads)) as group:
        return train(flags, *configs, group)


def train(flags, data_config, model_config, group):
    """Trains as one rank of a group and returns the exit status."""
    from sqair.training import checkpoints
    from sqair.training import loop as training
    from sqair.training.graph import TrainingGraph

    settings = from_flags(flags)
    configs = {"data_config": data_config.__file__, "model_config": model_config.__file__}
    used_flags = stored_flags(configs)
    common = {name: value for name, value in used_flags.items() if name not in OF_A_RANK}
    group.check_same("flags", json.dumps(common, sort_keys=True).encode())
    data = data_config.load(flags)
    if settings.batch_size > data.train.num_sequences:
        raise UserError(
            f"`batch_size={settings.batch_size}` is refused: there are {data.train.num_sequences} training"
            " sequences."
        )
    run, checkpoint, changed = None, None, {}
    if flags.resume or flags.resume_run:
        folder = runs.find(flags.results_dir, flags.run_name, flags.resume_run)
        run = runs.Run(folder, reads_only=group.rank > 0)
        before = {name: flag.default for name, flag in cli.own_flags().items() if name in used_flags}
        changed = runs.differences({**before, **run.flags}, used_flags, CHANGEABLE)
        run.check_unchanged(configs, describe(data))
        checkpoint = training.resume_point(run, report)
    mean_image = data.train.mean_image()

    def make_model():
        return model_config.load(flags, mean_image)

    weights = checkpoints.of_run_or_path(flags.init_from) if flags.init_from and not checkpoint else None
    graph = TrainingGraph(make_model, data.train, settings, checkpoint, weights, group)
    if group.rank > 0:
        received = training.follow(graph, settings, group)
        return 0 if received is None else 128 + received
    if run is None:  # only now: wrong flags leave no folder behind
        run = runs.create(flags.results_dir, flags.run_name)
        run.copy_configs(configs)
        report(f"Training {run.folder}.")
    else:
        report(f"Resuming {run.folder} at step {checkpoint.step}.")
        if run.failure and not changed:
            report(
                f"It stopped before: {run.failure['message']}. With the same settings this will happen again;"
                " change --learning_rate, --clip_norm or --seed."
            )
    run.begin_session(checkpoint.step if checkpoint else 0, used_flags, describe(data), changed)
    received = training.train(run, graph, make_model, data, settings, checkpoint, group)
    if received is None:
        report(f"Trained to step {graph.step}; metrics.csv, figures and checkpoints are in {run.folder}.")
        return 0
    named = [f" --{name}={used_flags[name]}" for name in CONFIG_FLAGS if os.sep in used_flags[name]]
    again = f"{sys.executable} {sys.argv[0]} --resume_run={run.folder}{''.join(named)}"
    report(f"Stopped by {received.name} at step {graph.step}, and saved. To go on: {again}")
    return 128 + received


def report(text):
    print(text, flush=True)


def stored_flags(configs):
    """The flags that make a run what it is, dict of name -> value; `configs` are the paths of its config files."""
    values = {name: flag.value for name, flag in cli.own_flags().items() if name not in RUN_FLAGS}
    return dict(values, **{name: config_files.name_of(path) for name, path in configs.items()})


def describe(data):
    """The sizes of the data, which a resumed run must find again."""
    return {
        f"{split} {name}": getattr(dataset, name)
        for split, dataset in data.items()
        for name in ("num_sequences", "seq_len", "image_shape")
    }


def expanded(argv):
    """The command line, with what `--resume` and `--test_run` imply put before the flags that were given.

    What stands before the last lone `--` are a shell script's own flags: both come after them.
    Sets the visible CUDA devices, too: nothing has imported TensorFlow yet.
    """
    start = len(argv) - argv[::-1].index("--") if "--" in argv else 1
    defaults, given = [word for word in argv[1:start] if word != "--"], argv[start:]
    try:
        if early_flags(argv[:1] + given).test_run:
            defaults += as_words(TEST_RUN)
        early = early_flags(argv[:1] + defaults + given)
    except flags.Error:
        return argv[:1] + defaults + given  # `cli.run` says what is wrong
    os.environ["CUDA_VISIBLE_DEVICES"] = devices(early)
    if early.resume or early.resume_run:
        folder = runs.find(early.results_dir, early.run_name, early.resume_run)
        stored = runs.read_json(os.path.join(folder, "flags.json"))
        implied = {name: value for name, value in stored.items() if is_setting(name)}
        configs = [name for name in CONFIG_FLAGS if not early[name].present]
        implied.update((name, runs.recorded_config(folder, name)) for name in configs)
        defaults += as_words(implied)
    return argv[:1] + defaults + given


def devices(early):
    """What `CUDA_VISIBLE_DEVICES` is to be; processes on one machine take one of these devices each."""
    is_given = early["gpu"].present
    chosen = early.gpu if is_given else os.environ.get("CUDA_VISIBLE_DEVICES", early.gpu)
    local_rank = os.environ.get("HOROVOD_LOCAL_RANK")  # set by horovodrun
    if not early.distributed or local_rank is None or chosen in ("", "-1"):
        return chosen
    if not is_given and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return local_rank
    numbers = chosen.split(",")
    if int(local_rank) >= len(numbers):
        raise UserError(
            f"--gpu={chosen} is refused: each of more than {len(numbers)} processes takes one of these."
        )
    return numbers[int(local_rank)]


def early_flags(argv):
    """The flags that say where a run is and how it is started, read before the others are known."""
    early = flags.FlagValues()
    for name in RUN_FLAGS:
        early[name] = flags.FLAGS[name]
    early.set_gnu_getopt(True)
    early(argv, known_only=True)
    return early


def as_words(values):
    """Flags as they are written on a command line: list of str."""
    return [f"--{k}={','.join(v) if isinstance(v, list) else v}" for k, v in values.items() if v is not None]


def is_setting(name):
    """Whether a name in a run's flags.json is taken: none may say where flags or code to execute come from."""
    return name.isidentifier() and name not in (*RUN_FLAGS, "flagfile")


if __name__ == "__main__":
    cli.run(main, CONFIG_FLAGS, expand=expanded)
