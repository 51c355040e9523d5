# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of tracked sequences, in NumPy and matplotlib's object interface (no window, no global state).

Arrays are time-major, with `T` frames, `B` sequences, `N` slots, `M` annotated objects, `H x W x C` images in
[0, 1] (C is 1 or 3) and glimpses of side `g`. Boxes are `(y, x, h, w)` in pixels, `(0, 0, H, W)` the image.
"""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sqair.evaluation.sheet import BLOCK_GAP, GAP, LARGE_TILE, TILE, TOP, Sheet, colour_of


def tracking_figure(
    images,
    reconstructions,
    boxes,
    presence,
    object_ids,
    max_sequences=4,
    true_boxes=None,
    true_presence=None,
):
    """For several sequences the inputs above the reconstructions over time, with boxes coloured by object id.

    An object that is tracked keeps its colour and number from frame to frame. What a box has beyond the image
    is cut off: its outline then stays open at the border.

    Args:
        images: `[T, B, H, W, C]`.
        reconstructions: `[T, B, H, W, C]`; None for the inputs alone.
        boxes: `[T, B, N, 4]`.
        presence: `[T, B, N]`, 1 or 0.
        object_ids: `[T, B, N]`, whole numbers, -1 for none.
        max_sequences: how many sequences to show, the first ones of the batch.
        true_boxes: `[T, B, M, 4]`, dashed on the inputs; None for none.
        true_presence: `[T, B, M]`; None where every true box is present.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if a shape does not fit `images`.
    """
    rows = ["input"] if reconstructions is None else ["input", "model"]
    images, reconstructions, boxes, presence, object_ids = _checked(
        images, images if reconstructions is None else reconstructions, boxes, presence, object_ids
    )
    seq_len, batch_size, height, width, _ = images.shape
    if true_boxes is not None:
        true_boxes, true_presence = _checked_truth(true_boxes, true_presence, seq_len, batch_size)
    n_sequences = min(batch_size, max_sequences)
    tile = _tile_size(seq_len, height, width)
    block = len(rows) * (tile[0] + GAP) + BLOCK_GAP
    sheet = Sheet(seq_len, n_sequences * block - BLOCK_GAP, tile, (height, width))
    for b in range(n_sequences):
        tops = [TOP + b * block + row * (tile[0] + GAP) for row in range(len(rows))]
        for y, name in zip(tops, rows):
            sheet.row_label(y, tile[0], name)
        for t in range(seq_len):
            for y, picture in zip(tops, (images, reconstructions)):
                frame = sheet.frame(t, y, picture[t, b])
                if picture is images and true_boxes is not None:
                    sheet.true_boxes(frame, true_boxes[t, b], true_presence[t, b])
                sheet.boxes(frame, boxes[t, b], presence[t, b], object_ids[t, b])
    sheet.time_labels(seq_len)
    notes = ["colour, number: object id"] if presence.shape[2] else []  # a model without objects has no slots
    sheet.note(" · ".join(notes + (["dashed: true box"] if true_boxes is not None else [])))
    return sheet.figure


def glimpse_figure(images, reconstructions, boxes, presence, object_ids, glimpses, presence_prob, sequence=0):
    """One sequence frame by frame: input, reconstruction, and what each slot draws, with its probability.

    Below a frame stands one glimpse per slot, titled with the posterior probability of its presence and
    bordered in its object's colour; where the slot is absent the glimpse is greyed and has no border.

    Args:
        images: `[T, B, H, W, C]`.
        reconstructions: `[T, B, H, W, C]`.
        boxes: `[T, B, N, 4]`.
        presence: `[T, B, N]`, 1 or 0.
        object_ids: `[T, B, N]`, whole numbers, -1 for none.
        glimpses: `[T, B, N, g, g, C]`.
        presence_prob: `[T, B, N]` in [0, 1].
        sequence: which sequence of the batch.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if a shape does not fit `images` or the batch has no such sequence.
    """
    images, reconstructions, boxes, presence, object_ids = _checked(
        images, reconstructions, boxes, presence, object_ids
    )
    seq_len, batch_size, height, width, channels = images.shape
    slots = presence.shape
    glimpses = _shaped("glimpses", glimpses, slots + (None, None, channels))
    presence_prob = _shaped("presence_prob", presence_prob, slots)
    if not 0 <= sequence < batch_size:
        raise ValueError(f"sequence is {sequence}, but the batch holds sequences 0 to {batch_size - 1}.")
    b, tile = sequence, _tile_size(seq_len, height, width)
    side, title = round(0.62 * tile[1], 2), 0.19
    model_row = TOP + tile[0] + GAP
    slots_top = model_row + tile[0] + GAP
    sheet = Sheet(seq_len, slots_top - TOP + slots[2] * (side + title), tile, (height, width))
    sheet.row_label(TOP, tile[0], "input")
    sheet.row_label(model_row, tile[0], "model")
    for n in range(slots[2]):
        y = slots_top + n * (side + title) + title
        sheet.row_label(y, side, f"slot {n + 1}")
        for t in range(seq_len):
            present = presence[t, b, n] > 0.5
            colour = colour_of(object_ids[t, b, n]) if present else None
            sheet.glimpse(t, y, side, glimpses[t, b, n], presence_prob[t, b, n], colour)
    for t in range(seq_len):
        for y, picture in ((TOP, images), (model_row, reconstructions)):
            sheet.boxes(sheet.frame(t, y, picture[t, b]), boxes[t, b], presence[t, b], object_ids[t, b])
    sheet.time_labels(seq_len)
    sheet.note("colour, number: object id · above a glimpse: presence probability · grey: absent")
    return sheet.figure


def generation_figure(
    reconstructions,
    boxes,
    presence,
    object_ids,
    images=None,
    num_observed=0,
    max_sequences=8,
    max_frames=30,
):
    """Videos that a model imagines, a row each, with boxes coloured by object id.

    Args:
        reconstructions: `[T, B, H, W, C]`.
        boxes: `[T, B, N, 4]`.
        presence: `[T, B, N]`, 1 or 0.
        object_ids: `[T, B, N]`, whole numbers, -1 for none.
        images: list of V videos `[t, H, W, C]`, of T frames at most, to draw above every B / V rows that continue
            them; None for samples from the prior.
        num_observed: int, how many of their frames the model has seen.
        max_sequences, max_frames: ints, how many of the B videos and T frames to show, the first ones.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if a shape does not fit `reconstructions`, or V does not divide B.
    """
    everything = _checked(reconstructions, reconstructions, boxes, presence, object_ids)[1:]
    reconstructions, *objects = (x[:max_frames] for x in everything)
    seq_len, batch_size, height, width, channels = reconstructions.shape
    images = [_shaped("images", video, (None, height, width, channels))[:seq_len] for video in images or ()]
    if images and batch_size % len(images):
        raise ValueError(f"{batch_size} videos do not continue {len(images)} equally often.")
    each = batch_size // len(images) if images else 1
    rows = []  # title, video, its objects if a model drew it
    for b in range(min(batch_size, max_sequences)):
        if images and b % each == 0:
            rows.append(("input", images[b // each], None))
        title = f"future {b % each + 1}" if images else f"sample {b + 1}"
        rows.append((title, reconstructions[:, b], [x[:, b] for x in objects]))
    tile = _tile_size(seq_len, height, width)
    sheet = Sheet(seq_len, len(rows) * (tile[0] + GAP) - GAP, tile, (height, width))
    for row, (title, video, found) in enumerate(rows):
        y = TOP + row * (tile[0] + GAP)
        sheet.row_label(y, tile[0], title)
        for t, image in enumerate(video):
            frame = sheet.frame(t, y, image)
            if found:
                sheet.boxes(frame, *(x[t] for x in found))
    sheet.time_labels(seq_len)
    seen = f" · the model saw frames 1 to {num_observed}" if num_observed else ""
    sheet.note("colour, number: object id" + seen)
    return sheet.figure


def to_png(figure):
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def to_array(figure):
    """The figure as `[height, width, 3]` uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _tile_size(seq_len, height, width):
    """Height and width of a frame in inches, whole hundredths so that tiles begin on a dot."""
    tile_width = min(LARGE_TILE, max(TILE, 10 / seq_len))
    return round(tile_width * height / width, 2), round(tile_width, 2)


def _shaped(name, array, shape):
    """`array` as NumPy, or a ValueError if its shape differs from `shape`, where None is any length."""
    array = np.asarray(array)
    fits = array.ndim == len(shape) and all(want in (None, is_) for want, is_ in zip(shape, array.shape))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} has shape {array.shape}, but ({wanted}) is needed.")
    return array


def _checked(images, reconstructions, boxes, presence, object_ids):
    images = _shaped("images", images, (None,) * 5)
    if images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"images has shape {images.shape}, but [T, B, H, W, C] with C of 1 or 3 is needed.")
    frames = images.shape[:2]
    reconstructions = _shaped("reconstructions", reconstructions, images.shape)
    presence = _shaped("presence", presence, frames + (None,))
    boxes = _shaped("boxes", boxes, presence.shape + (4,))
    object_ids = _shaped("object_ids", object_ids, presence.shape)
    return images, reconstructions, boxes, presence, object_ids


def _checked_truth(true_boxes, true_presence, seq_len, batch_size):
    true_boxes = _shaped("true_boxes", true_boxes, (seq_len, batch_size, None, 4))
    if true_presence is None:
        true_presence = np.ones(true_boxes.shape[:-1])
    return true_boxes, _shaped("true_presence", true_presence, true_boxes.shape[:-1])
