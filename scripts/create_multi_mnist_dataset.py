# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates moving multi-MNIST: sequences of digits that move, leave the canvas and overlap, with annotations.

The default is what scripts/train_multi_mnist.sh trains on; --kind=mnist_mot makes MNIST-MOT, digits that cross a large
frame one after the other; scripts/train_mnist_mot.sh says what it trains on. One seed fixes every byte of the data set.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from absl import flags  # noqa: E402

from sqair import cli  # noqa: E402
from sqair.data import mnist, mnist_mot, moving_mnist, trajectories  # noqa: E402
from sqair.data.publishing import check_target  # noqa: E402
from sqair.errors import UserError  # noqa: E402

KINDS = {  # and the flags that are of this kind alone
    "moving_mnist": ("num_digits", "digit_scale", "max_speed", "max_acceleration", "noise"),
    "mnist_mot": ("frame_size", "max_digits", "speed", "wait", "birth_prob", "history"),
}
# What MNIST-MOT has instead of the flags' defaults; its frames are six times as large.
OF_MNIST_MOT = {"data_dir": os.path.join("data", "mnist_mot"), "num_train": 10_000, "num_valid": 1_000}
OF_MNIST_MOT.update(canvas_size="128", seq_len=20)

with cli.group("The data set"):
    flags.DEFINE_enum("kind", "moving_mnist", list(KINDS), "What the digits do.")
    flags.DEFINE_string(
        "data_dir",
        os.path.join("data", "multi_mnist"),
        "Folder to write the data set into; data/mnist_mot by default for MNIST-MOT.",
    )
    flags.DEFINE_integer(
        "num_train", 60_000, "Number of training sequences; MNIST-MOT: 10000 by default.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_valid", 10_000, "Number of validation sequences; MNIST-MOT: 1000 by default.", lower_bound=1
    )
    flags.DEFINE_integer("seed", 0, "Fixes every random choice.", lower_bound=0)
    flags.DEFINE_integer("workers", None, "Number of processes; by default one for each core.", lower_bound=1)
    flags.DEFINE_boolean("overwrite", False, "Replace the data set that is in the folder.")

with cli.group("Sequences"):
    flags.DEFINE_string(
        "canvas_size", "50", "Side of the frames in pixels, or HEIGHTxWIDTH; MNIST-MOT: 128 by default."
    )
    flags.DEFINE_integer("seq_len", 10, "Frames of a sequence; MNIST-MOT: 20 by default.", lower_bound=1)

with cli.group("Moving multi-MNIST"):
    flags.DEFINE_string("num_digits", "0-2", "Numbers of digits, equally often: a range, or a list like 1,3.")
    flags.DEFINE_float("digit_scale", 1.0, "Resizes the digits; 0.7 makes them 30% smaller.", lower_bound=0.0)
    flags.DEFINE_float("max_speed", 10.0, "Largest speed on each axis in pixels per frame.", lower_bound=0.0)
    flags.DEFINE_float(
        "max_acceleration",
        3.0,
        "Largest acceleration on each axis in pixels per frame squared.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "noise", 0.01, "Standard deviation of the acceleration's random change per frame.", lower_bound=0.0
    )

with cli.group("MNIST-MOT"):
    default = mnist_mot.Options()
    flags.DEFINE_string(
        "frame_size",
        "",
        "Size that drawn frames are reduced to, as canvas_size; empty: they stay as they are.",
    )
    flags.DEFINE_integer("max_digits", default.max_digits, "Most digits in a frame.", lower_bound=1)
    flags.DEFINE_float("speed", default.speed, "Speed of every digit in pixels per frame.", lower_bound=0.0)
    flags.DEFINE_integer("wait", default.wait, "Frames before the next digit may come.", lower_bound=0)
    flags.DEFINE_float("birth_prob", default.birth_prob, "Probability per frame that it comes then.")
    flags.DEFINE_integer(
        "history",
        default.history,
        "A slot's random life begins at most so many frames before the first one; 0: all slots start empty.",
        lower_bound=0,
    )

with cli.group("Digits"):
    flags.DEFINE_string(
        "mnist_dir",
        None,
        "Folder that holds MNIST's idx files, gzipped or not; without it they are downloaded.",
    )
    flags.DEFINE_boolean("bundled_digits", False, "Use the 6,000 digits that come with the package.")
    flags.DEFINE_string("mnist_cache", mnist.default_cache(), "Folder that downloaded files are kept in.")
    flags.DEFINE_list(
        "mnist_mirrors", list(mnist.MIRRORS), "Addresses to download from, tried in this order."
    )
    flags.DEFINE_float(
        "mnist_timeout",
        mnist.TIMEOUT_SECONDS,
        "Seconds that one file may take from one mirror.",
        lower_bound=0.1,
    )


def parse_size(name, text):
    """`(H, W)` from "50" or "40x60", the value of a flag."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise UserError(f"--{name}={text} is refused: it takes a number of pixels, or two as in 40x60.")
    return int(sides[0]), int(sides[-1])


def parse_num_digits(text):
    """The numbers of digits from "2", a range "0-2" or a list "1,3"."""
    numbers = []
    for part in text.split(","):
        ends = part.strip().split("-")
        if (
            len(ends) > 2
            or not all(end.isdecimal() and len(end) < 4 for end in ends)
            or int(ends[0]) > int(ends[-1])
        ):
            raise UserError(
                f"--num_digits={text} is refused: it takes a number, a range like 0-2 or a list like 1,3."
            )
        numbers += range(int(ends[0]), int(ends[-1]) + 1)
    return tuple(numbers)


def of_kind(flags):
    """The module that makes the kind of sequences that is asked for, and its options."""
    for kind, names in KINDS.items():
        for name in names:
            if kind != flags.kind and flags[name].present:
                raise UserError(f"`{name}={flags[name].value}` is refused: it is for `kind={kind}` alone.")
    if flags.kind == "mnist_mot":
        for name, value in OF_MNIST_MOT.items():
            if not flags[name].present:
                flags[name].value = value
        options = {name: getattr(flags, name) for name in ("seq_len", *KINDS["mnist_mot"])}
        options["frame_size"] = parse_size("frame_size", flags.frame_size) if flags.frame_size else None
        return mnist_mot, mnist_mot.Options(parse_size("canvas_size", flags.canvas_size), **options)
    return moving_mnist, moving_mnist.Options(
        canvas_size=parse_size("canvas_size", flags.canvas_size),
        digit_scale=flags.digit_scale,
        num_digits=parse_num_digits(flags.num_digits),
        seq_len=flags.seq_len,
        motion=trajectories.Motion(flags.max_speed, flags.max_acceleration, flags.noise),
    )


def main(flags):
    cli.take_sigterm_as_interrupt()
    kind, options = of_kind(flags)
    begin = time.time()
    try:
        check_target(flags.data_dir, flags.overwrite)
        if flags.bundled_digits:
            if flags.mnist_dir is not None:
                raise UserError("--bundled_digits and --mnist_dir exclude each other; give one of them.")
            digits = mnist.load_bundle()
        else:
            digits = mnist.load(flags.mnist_dir, flags.mnist_cache, flags.mnist_mirrors, flags.mnist_timeout)
        index = kind.create(
            flags.data_dir,
            digits,
            options,
            flags.num_train,
            flags.num_valid,
            flags.seed,
            flags.workers,
            flags.overwrite,
            progress=True,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; no data set was written.") from None
    for split, entry in index["splits"].items():
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in entry["statistics"].items())
        print(f"{split}: {entry['num_sequences']} sequences; {numbers}")
    print(f"Wrote {flags.data_dir} in {time.time() - begin:.0f} s.")


if __name__ == "__main__":
    cli.run(main)
