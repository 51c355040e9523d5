#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a small data set, trains a small model on it, checks what it has learned, and draws what it sees.

Takes 3 to 6 minutes on 2 cores. The commands it runs are printed; they work by hand, too.
"""

import os
import subprocess
import sys
import time

import numpy as np
from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files
from sqair.training import runs

SCRIPTS = os.path.dirname(os.path.abspath(__file__))

flags.DEFINE_integer("train_itr", 1500, "Updates to train for.", lower_bound=1)

DATA_DIR, RESULTS_DIR, RUN_NAME = os.path.join("data", "demo"), "results", "demo"
SEQUENCES = 200  # of the validation set
DATA = ("--bundled_digits", "--overwrite", "--num_train=2000", f"--num_valid={SEQUENCES}")
MODEL = ("--n_units=4", "--disc_step_bias=5")  # half as wide as the paper's, and eager to discover
TRAINING = ("--batch_size=16", "--k_particles=3", "--learning_rate=1e-4")
REPORTS = ("--report_loss_every=100", "--log_itr=500", "--fig_itr=500", "--save_itr=0", "--noeval_on_train")
REPORTS += ("--eval_size_fraction=0.5",)

MIN_GAIN = 50.0  # nats per frame above the empty canvas
OBJECTS = (0.3, 2.7)  # per frame; the data has 1, and there are 3 slots
MIN_SHARE = 0.5  # of boxes that meet a digit


def main(flags):
    begin = time.time()
    call("create_multi_mnist_dataset.py", f"--data_dir={DATA_DIR}", *DATA)
    where = (f"--data_dir={DATA_DIR}", f"--results_dir={RESULTS_DIR}", f"--run_name={RUN_NAME}")
    call("train.py", *where, f"--train_itr={flags.train_itr}", *MODEL, *TRAINING, *REPORTS)

    print("\nChecking what it has learned ...", flush=True)
    from sqair.evaluation import evaluator as evaluation
    from sqair.evaluation import visualization

    folder = runs.find(RESULTS_DIR, RUN_NAME)
    evaluator, _ = evaluation.open_run(folder)
    numbers = evaluator.evaluate("valid")
    seen = evaluator.predict("valid", SEQUENCES)
    output_std = runs.read_json(os.path.join(folder, "flags.json"))["output_std"]
    passed = report(numbers, seen, empty_log_likelihood(seen.images, output_std))
    figure = visualization.tracking_figure(
        seen.images, seen.reconstructions, seen.boxes, seen.presence, seen.object_ids
    )
    path = os.path.join(folder, "demo.png")
    with files.atomic_write(path, "wb") as file:
        file.write(visualization.to_png(figure))
    print(
        f"""
Look at  {path}
         Each pair of rows is a sequence: frames above, what the model makes of them below. A box is an
         object; where tracking works it follows a digit and keeps its colour and number from frame to frame.
Then at  {folder}{os.sep}figures/ for how that came about, metrics.csv for the numbers, or
         .venv/bin/tensorboard --logdir {RESULTS_DIR}
Took {time.time() - begin:.0f} s."""
    )
    if not passed:
        print("The demo failed: see the checks above that say NO.", file=sys.stderr)
    return 0 if passed else 1


def call(script, *arguments):
    """Runs one of the scripts as a user would, and ends with it if it fails."""
    print(f"\n$ .venv/bin/python scripts/{script} {' '.join(arguments)}", flush=True)
    status = subprocess.call([sys.executable, os.path.join(SCRIPTS, script), *arguments])
    if status:
        sys.exit(status)


def empty_log_likelihood(images, output_std):
    """Log-likelihood in nats per frame of `[T, B, H, W, C]` images under a canvas without objects."""
    log_prob = -0.5 * (images / output_std) ** 2 - np.log(output_std) - 0.5 * np.log(2 * np.pi)
    return float(np.mean(np.sum(log_prob, axis=(2, 3, 4))))


def report(numbers, seen, empty):
    """Prints the checks; returns whether all hold. A model that draws nothing raises its bound, too."""
    from sqair.evaluation import metrics

    gain = numbers.data_ll - empty
    share = metrics.share_of_boxes_on_objects(
        seen.boxes, seen.presence, seen.true_boxes, seen.true_presence, seen.images.shape[2:]
    )
    checks = [
        (
            gain >= MIN_GAIN,
            f"{gain:.0f} nats per frame above the empty canvas ({empty:.0f}); at least {MIN_GAIN:.0f}",
        ),
        (
            OBJECTS[0] <= numbers.num_steps <= OBJECTS[1],
            f"{numbers.num_steps:.2f} objects per frame; between {OBJECTS[0]} and {OBJECTS[1]}",
        ),
        (share >= MIN_SHARE, f"{share:.0%} of the boxes meet a digit; at least {MIN_SHARE:.0%}"),
    ]
    for holds, text in checks:
        print(f"  {'yes' if holds else 'NO '}  {text}")
    return all(holds for holds, _ in checks)


if __name__ == "__main__":
    cli.run(main)
