# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the numbers of a training go: `metrics.csv`, TensorBoard, and a progress bar or plain lines."""

import csv
import os
import sys
import time

from sqair import files
from sqair.graph_mode import tf

BATCH, TRAIN, VALID = (
    "batch",
    "train",
    "valid",
)  # sources of numbers: one training batch, parts of the data sets
_KEYS = ("step", "source")


class Metrics:
    """`metrics.csv`: one row for each step and source, numbers written so that they read back exactly."""

    def __init__(self, path, names, last_step=None):
        """Starts the file, or goes on with it after dropping what lies beyond a step.

        Args:
            path: str.
            names: list of str, the columns after `step` and `source`; what a source lacks stays empty.
            last_step: int, the step of the checkpoint that is resumed from; None for a new run.
        """
        self._path = path
        self._columns = [*_KEYS, *names]
        rows = [] if last_step is None else [row for row in read_metrics(path) if row["step"] <= last_step]
        self._known = {(row["step"], row["source"]) for row in rows}
        with files.atomic_write(path) as file:
            file.write(",".join(self._columns) + "\n")
            file.writelines(self._line(row) for row in rows)

    def has(self, step, source):
        """Whether there is a row already."""
        return (step, source) in self._known

    def write(self, step, source, numbers):
        """Adds a row; `numbers` is a dict of name -> number."""
        row = dict(numbers, step=step, source=source)
        with files.writing(self._path), open(self._path, "a") as file:
            file.write(self._line(row))
        self._known.add((step, source))

    def sync(self):
        """Waits until the rows are on the disk."""
        with files.writing(self._path):
            files.sync(self._path)

    def _line(self, row):
        return ",".join(_text(row.get(name)) for name in self._columns) + "\n"


def read_metrics(path):
    """The rows of `metrics.csv`: list of dicts of `step` int, `source` str where there is one, name -> float.

    A last row that was cut off is left out.
    """
    if not os.path.exists(path):
        return []
    with open(path, newline="") as file:
        text = file.read()
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    rows = []
    for cells in lines[1:]:
        if len(cells) == len(lines[0]):
            row = {name: cell for name, cell in zip(lines[0], cells) if cell}
            numbers = {name: float(cell) for name, cell in row.items() if name not in _KEYS}
            rows.append({**row, **numbers, "step": int(row["step"])})
    return rows


class TensorBoard:
    """Writers of TensorBoard events, one folder for each source. Nothing is added to a graph."""

    def __init__(self, folder, last_step=None):
        """Prepares to write; what earlier sessions wrote beyond `last_step` is dropped by TensorBoard."""
        self._folder = folder
        self._last_step = last_step
        self._writers = {}

    def write(self, step, source, numbers):
        """Adds a dict of name -> number."""
        values = [tf.Summary.Value(tag=name, simple_value=float(number)) for name, number in numbers.items()]
        self._add(step, source, tf.Summary(value=values))

    def write_image(self, step, source, name, png, size):
        """Adds a picture: encoded bytes and its (height, width) in pixels."""
        image = tf.Summary.Image(encoded_image_string=png, height=size[0], width=size[1], colorspace=4)
        self._add(step, source, tf.Summary(value=[tf.Summary.Value(tag=name, image=image)]))

    def sync(self):
        """Waits until what was written is on the disk."""
        for source, writer in self._writers.items():
            writer.flush()
            folder = os.path.join(self._folder, source)
            with files.writing(folder):
                files.sync_folder(folder)

    def close(self):
        """Ends all files."""
        for writer in self._writers.values():
            writer.close()

    def _add(self, step, source, summary):
        if source not in self._writers:
            folder = os.path.join(self._folder, source)
            with files.writing(folder):
                files.make_folder(folder)
                first_step = 0 if self._last_step is None else self._last_step + 1
                writer = tf.summary.FileWriter(folder, filename_suffix=f".from-{first_step}")
            if self._last_step is not None:  # TensorBoard drops older events from the step of a START on
                start = tf.SessionLog(status=tf.SessionLog.START)
                writer.add_session_log(start, self._last_step + 1)
            self._writers[source] = writer
        self._writers[source].add_summary(summary, step)


class Console:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, train_itr, start, stream=None):
        """Starts at step `start` of `train_itr`; `stream` is standard output by default."""
        self._stream = stream or sys.stdout
        self._train_itr = train_itr
        self._updates, self._seconds = 0, 0.0  # since the last heartbeat, without what lies between updates
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm  # only where there is a terminal to draw on

            self._bar = tqdm(total=train_itr, initial=start, file=self._stream, unit="it", dynamic_ncols=True)
            self._bar_time = 0.0

    @property
    def wants_numbers(self):
        """Whether the bar is due for numbers: at most once a second."""
        return self._bar is not None and time.time() - self._bar_time > 1

    def step(self, seconds, numbers=None):
        """One update was done in `seconds`; `numbers` refreshes what the bar shows."""
        self._updates, self._seconds = self._updates + 1, self._seconds + seconds
        if self._bar is None:
            return
        if numbers is not None:
            self._bar.set_postfix_str(_headline(numbers), refresh=False)
            self._bar_time = time.time()
        self._bar.update()

    def heartbeat(self, step, numbers):
        """Writes a line about a training batch, with speed and time left; the bar shows these already."""
        rate = self._updates / max(self._seconds, 1e-9)
        self._updates, self._seconds = 0, 0.0
        if self._bar is None:
            left = _duration((self._train_itr - step) / rate)
            self.line(f"step {step}/{self._train_itr}: {_headline(numbers)}, {rate:.2f} it/s, {left} left")

    def line(self, text):
        """Writes a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def close(self):
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _headline(numbers):
    parts = [f"T {int(numbers['seq_len'])}", f"bound {numbers['normalised_iwae']:.2f}"]
    for name, title in (("num_step_acc", "count accuracy"), ("num_steps", "objects")):
        if name in numbers:
            parts.append(f"{title} {numbers[name]:.3f}")
    return ", ".join(parts)


def _duration(seconds):
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {int(seconds) % 60:02d} s"


def _text(value):
    """A cell of the table; floats with the digits that give them back exactly."""
    if value is None:
        return ""
    if isinstance(value, (str, int)):
        return str(value)
    return repr(float(value))
