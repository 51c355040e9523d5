# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of what a model sees in chosen sequences: figures and films, written into a folder."""

import os

from sqair import files
from sqair.data import video_files
from sqair.evaluation import cases, films, visualization

TRACKING_ROWS = 4  # sequences in a figure


def make(evaluator, split, groups, folder, seq_len=None, film=".gif", fps=4):
    """Writes for each group of sequences a figure of the first ones, and for each sequence its glimpses and a film.

    Args:
        evaluator: `sqair.evaluation.evaluator.Evaluator`.
        split: str, which data set.
        groups: dict of name -> list of numbers of sequences.
        folder: str; it is made if it does not exist.
        seq_len: int, frames of each sequence; all by default.
        film: str, ".gif" or ".mp4"; "" for no films.
        fps: int, frames per second of films.

    Yields:
        The path of each file written: `NAME.png`, `NAME-NUMBER-glimpses.png` and `NAME-NUMBER.gif`.

    Raises:
        UserError: if there is no such sequence, or a file cannot be written.
    """
    for name, numbers in groups.items():
        for i, number in enumerate(numbers):
            seen = cases.predict(evaluator, split, [number], seq_len)
            if i == 0:
                with files.writing(folder):
                    files.make_folder(folder)
                shown = cases.predict(evaluator, split, numbers[:TRACKING_ROWS], seq_len)
                yield _write(os.path.join(folder, f"{name}.png"), tracking_png(shown))
            path = os.path.join(folder, f"{name}-{number}")
            yield _write(f"{path}-glimpses.png", glimpse_png(seen))
            if film:
                video_files.write_video(path + film, films.of_prediction(seen, 0), fps)
                yield path + film


def tracking_png(seen):
    """`visualization.tracking_figure` of a `Prediction`, with what is annotated: the bytes of a PNG file."""
    truth = (seen.true_boxes, seen.true_presence) if seen.true_boxes.shape[2] else (None, None)
    return visualization.to_png(visualization.tracking_figure(*seen.tracks, seen.images.shape[1], *truth))


def glimpse_png(seen, sequence=0):
    """`visualization.glimpse_figure` of a sequence of a `Prediction`, likewise."""
    figure = visualization.glimpse_figure(*seen.tracks, seen.glimpses, seen.presence_prob, sequence)
    return visualization.to_png(figure)


def _write(path, content):
    with files.atomic_write(path, "wb") as file:
        file.write(content)
    return path
