#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the paper's table: trains five systems for some hours each and evaluates them; a page has ours beside it.

Models that come along in models/ are taken instead of training them. What was cut at any point goes on where it was
when the script is called again: Ctrl-C and SIGTERM save the training that runs. The page is written anew after each
system. Trainings are those of scripts/train.py; what they say is in log.txt of results_dir/SYSTEM.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files
from sqair.errors import UserError

flags.DEFINE_list("systems", ["all"], "Which: mlp_sqair, conv_sqair, mlp_air, conv_vrnn, mlp_vrnn, or all.")
flags.DEFINE_float(
    "hours",
    4.0,
    "Wall-clock hours of each training. Once its rate falls, a training ends as planned, whatever is given here; a"
    " complete one is continued if the hours are raised by a quarter or more.",
    lower_bound=0.0,
)
flags.DEFINE_string("data_dir", os.path.join("data", "multi_mnist"), "Folder of moving multi-MNIST.")
flags.DEFINE_string("results_dir", os.path.join("results", "table"), "Where runs and what is found go.")
flags.DEFINE_string("models_dir", "models", "Where models that come along are; empty: train all.")
flags.DEFINE_string("out", os.path.join("docs", "results.md"), "The page; its figures are beside it.")
flags.DEFINE_integer("few_sequences", 0, "Validation sequences for K = 5; 0: all.", lower_bound=0)
flags.DEFINE_integer("many_sequences", 400, "Validation sequences for K = 1,000; 0: all.", lower_bound=0)
flags.DEFINE_list(
    "labelled",
    ["100", "300", "1000", "3000", "10000", "all"],
    "Numbers of training sequences that classifiers of the addition task learn from.",
)
flags.DEFINE_integer("num_threads", 0, "Threads of each training; 0: all cores.", lower_bound=0)
flags.DEFINE_boolean(
    "test_run",
    False,
    "Tiny models, data and numbers: tries all of it in minutes. By default all of it goes into"
    " results/table_test_run.",
)

TEST_RUN_DIR = os.path.join(
    "results", "table_test_run"
)  # apart: a tiny model would be taken for one that is trained
TEST_RUN = dict(hours=0.002, models_dir="", few_sequences=20, many_sequences=8, labelled=("40", "all"))


def main(flags):
    from sqair.verification import paper_table, reproduction

    cli.take_sigterm_as_interrupt()
    if flags.test_run:
        if not flags["results_dir"].present:
            flags.results_dir = TEST_RUN_DIR
        if not flags["out"].present:
            flags.out = os.path.join(flags.results_dir, "results.md")
    plan = reproduction.Plan(
        data_dir=flags.data_dir,
        results_dir=flags.results_dir,
        models_dir=flags.models_dir,
        hours=flags.hours,
        few_sequences=flags.few_sequences,
        many_sequences=flags.many_sequences,
        labelled=tuple(flags.labelled),
        num_threads=flags.num_threads,
    )
    if flags.test_run:
        small = {name: value for name, value in TEST_RUN.items() if not flags[name].present}
        if not flags["data_dir"].present:
            small["data_dir"] = tiny_data(flags.results_dir)
        plan = plan._replace(few=2, many=4, tiny=True, **small)
    if not plan.hours > 0:
        raise UserError(f"`hours={plan.hours}` is refused: it must be above 0.")
    names = list(paper_table.TITLES) if flags.systems == ["all"] else flags.systems
    subjects = reproduction.subjects(names, plan)
    reproduction.check(plan)
    for folder in (flags.results_dir, os.path.dirname(flags.out) or "."):  # now rather than after hours
        files.check_writable(folder)
    given = [flag.serialize() for flag in cli.own_flags().values() if flag.present]
    command = " ".join(["scripts/reproduce_table.py", *given])
    try:
        make(subjects, plan, command, flags.out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; what is known is kept, and the same command goes on.") from None
    print(f"Look at {flags.out}")


def make(subjects, plan, command, path):
    """Brings all systems to the end, one after the other, and writes the page after each."""
    from tqdm import tqdm

    from sqair.verification import paper_table, reproduction, results_page

    shown = reproduction.subjects(paper_table.TITLES, plan)  # also what was brought to its end before
    total = plan.hours * sum(not subject.comes_along for subject in subjects)
    shape = "{desc}: {n:.2f} of {total:.2f} hours trained |{bar}| {elapsed}"
    # Without a terminal, `disable=None` shows no bar.
    with tqdm(total=total, bar_format=shape, dynamic_ncols=True, disable=None) as bar:
        trained = 0.0
        for subject in subjects:

            def advance(hours, before=trained):
                bar.n = before + min(hours, plan.hours)
                bar.refresh()

            for what, act in (
                ("training", lambda subject=subject: subject.train(advance)),
                (f"evaluating, K = {plan.few:,}", lambda subject=subject: subject.evaluate_few()),
                (f"evaluating, K = {plan.many:,}", lambda subject=subject: subject.evaluate_many()),
                ("adding", lambda subject=subject: subject.add()),
            ):
                bar.set_description_str(f"{subject.name}, {what}")
                if bar.disable:
                    print(f"{subject.name}: {what}", flush=True)
                act()
            if not subject.comes_along:
                trained += plan.hours
            results_page.write(path, shown, plan, command)


def tiny_data(results_dir):
    """Writes a small data set of frames as large as ever, unless it is there; returns its folder."""
    from sqair.data import mnist, moving_mnist, storage

    folder = os.path.join(results_dir, "data")
    if not os.path.exists(os.path.join(folder, storage.INDEX)):
        files.check_writable(results_dir)
        moving_mnist.create(folder, mnist.load_bundle(), moving_mnist.Options(seq_len=3), 200, 200)
    return folder


if __name__ == "__main__":
    cli.run(main)
