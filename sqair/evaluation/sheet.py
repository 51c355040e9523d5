# SPDX-License-Identifier: GPL-3.0-or-later
"""The sheet that figures of sequences are drawn on, and what an object looks like on it: colour, number, box.

In matplotlib's object interface (no window, no global state). Boxes are `(y, x, h, w)` in pixels, `(0, 0, H, W)` the
image.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

DOTS_PER_INCH = 100
TILE = 1.15  # width of a frame, inches; of a short sequence's up to LARGE_TILE
LARGE_TILE = 1.8
GAP = 0.05
BLOCK_GAP = 0.25  # between sequences
LEFT, TOP, BOTTOM, RIGHT = 0.34, 0.26, 0.3, 0.08  # margins, inches
MIN_WIDTH = 4.5  # room for the line below the frames

# Bright on black digits' ground, distinct with red-green blindness too; object ids take them in turn.
COLOURS = ("#ff6b60", "#4dabff", "#ffc21a", "#3ddc84", "#d58bff", "#00dede", "#ff9ad5", "#c8e64c")
UNKNOWN = "#9a9a9a"  # a present slot without an id
TRUTH = "#c4c4c4"  # neither a colour of an id nor the white of a digit
INK = "#303030"
PAPER = np.array([0.75, 0.75, 0.75])  # what an absent slot's glimpse fades to


def colour_of(object_id):
    """The colour of an object id (-1: none), the same in every figure."""
    return COLOURS[int(object_id) % len(COLOURS)] if object_id >= 0 else UNKNOWN


def number_place(box, object_id, image_size):
    """Where a number goes: to a corner of the box's visible part, one per id, so that numbers seldom meet.

    Args:
        box: `[4]` (y, x, h, w) in pixels.
        object_id: int.
        image_size: `(H, W)`.

    Returns:
        Tuple of the corner's (y, x) in pixels, and whether it is a lower and a right one; None if nothing is visible.
    """
    size = np.array(image_size)
    start, end = np.clip(box[:2], 0, size), np.clip(box[:2] + box[2:], 0, size)
    if np.any(end <= start):
        return None
    at_right, at_low = object_id % 2 == 1, object_id % 4 >= 2
    return ((end if at_low else start)[0], (end if at_right else start)[1]), at_low, at_right


def number_of(object_id):
    """What is written for an object id (-1: none)."""
    return str(int(object_id)) if object_id >= 0 else "?"


def as_rgb(image):
    """`[h, w, C]` to `[h, w, 3]` in [0, 1]; what is not a number is black."""
    image = np.clip(np.where(np.isfinite(image), image, 0.0), 0.0, 1.0)
    return np.broadcast_to(image, image.shape[:2] + (3,))


class Sheet:
    """A figure whose one pair of axes measures inches from the top left corner, filled tile by tile."""

    def __init__(self, n_columns, content_height, tile, image_size):
        """Lays it out.

        Args:
            n_columns: int, frames side by side.
            content_height: float, inches between the margins.
            tile: height and width of a frame, inches.
            image_size: `(H, W)`, pixels.
        """
        self.tile_height, self.tile_width = tile
        self.image_size = image_size
        width = LEFT + n_columns * (self.tile_width + GAP) - GAP + RIGHT
        self.size = max(width, MIN_WIDTH), TOP + content_height + BOTTOM
        self.left = round(LEFT + (self.size[0] - width) / 2, 2)
        self.figure = Figure(figsize=self.size, dpi=DOTS_PER_INCH, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes([0, 0, 1, 1])
        self._hold_limits()

    def _hold_limits(self):
        self.axes.set(xlim=(0, self.size[0]), ylim=(self.size[1], 0), aspect="auto")
        self.axes.set_axis_off()

    def _text(self, x, y, text, **style):
        style = {"fontsize": 8, "color": INK, "ha": "center", "va": "center", **style}
        return self.axes.text(x, y, text, **style)

    def _picture(self, x, y, width, height, image):
        self.axes.imshow(as_rgb(image), extent=(x, x + width, y + height, y), interpolation="nearest")
        self._hold_limits()

    def _column(self, t):
        return self.left + t * (self.tile_width + GAP)

    def row_label(self, y, height, text):
        """Writes `text` upwards beside the row that starts at `y`."""
        self._text(self.left - 0.12, y + height / 2, text, rotation=90)

    def time_labels(self, seq_len):
        """Numbers the frames above the first row, from 1."""
        for t in range(seq_len):
            self._text(self._column(t) + self.tile_width / 2, TOP - 0.11, f"t = {t + 1}")

    def note(self, text):
        """Writes what the marks mean below everything."""
        self._text(self.size[0] / 2, self.size[1] - 0.13, text, fontsize=7)

    def frame(self, t, y, image):
        """Draws an image in column `t`; returns its outline, which boxes are clipped to."""
        x, width, height = self._column(t), self.tile_width, self.tile_height
        self._picture(x, y, width, height, image)
        return self.axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=INK, linewidth=0.8))

    def glimpse(self, t, y, side, glimpse, probability, colour):
        """Draws a glimpse titled with its probability; `colour` None stands for an absent slot."""
        x = self._column(t) + round((self.tile_width - side) / 2, 2)
        rgb = as_rgb(glimpse)
        self._picture(x, y, side, side, rgb if colour else 0.75 * PAPER + 0.25 * rgb)
        if colour:
            border = Rectangle((x, y), side, side, fill=False, edgecolor=colour, linewidth=2.0, gid="glimpse")
            self.axes.add_patch(border)
        ink = INK if colour else UNKNOWN
        self._text(x + side / 2, y - 0.08, f"{probability:.2f}", fontsize=7.5, color=ink, gid="probability")

    def true_boxes(self, frame, boxes, presence):
        """Outlines the annotated objects of one frame."""
        for box in boxes[presence > 0.5]:
            self._box(frame, box, edgecolor=TRUTH, linewidth=0.9, linestyle=(0, (3, 2)), gid="true box")

    def boxes(self, frame, boxes, presence, object_ids):
        """Outlines and numbers the present slots of one frame."""
        for box, present, object_id in zip(boxes, presence, object_ids):
            if present > 0.5 and np.all(np.isfinite(box)):
                colour = colour_of(object_id)
                self._box(frame, box, edgecolor=colour, linewidth=1.4, gid="box")
                self._number(frame, box, int(object_id), colour)

    def _place(self, frame, y, x):
        """Position on the sheet, `(x, y)` in inches, of a position in an image in pixels."""
        scale_y, scale_x = self.tile_height / self.image_size[0], self.tile_width / self.image_size[1]
        return frame.get_x() + x * scale_x, frame.get_y() + y * scale_y

    def _box(self, frame, box, **style):
        y, x, height, width = (float(v) for v in box)
        left, top = self._place(frame, y, x)
        right, low = self._place(frame, y + height, x + width)
        patch = self.axes.add_patch(Rectangle((left, top), right - left, low - top, fill=False, **style))
        patch.set_clip_path(frame)

    def _number(self, frame, box, object_id, colour):
        """Writes the id on its colour, within the frame."""
        place = number_place(box, object_id, self.image_size)
        if place is None:
            return
        corner, at_low, at_right = place
        x, y = self._place(frame, *corner)
        text = number_of(object_id)
        height, width = 0.1, 0.065 * len(text)  # of the text, inches: it stays within the frame
        left, top = frame.get_x() + 0.02, frame.get_y() + 0.02
        x = np.clip(x - width * at_right, left, left + self.tile_width - width - 0.04)
        y = np.clip(y - height * at_low, top, top + self.tile_height - height - 0.04)
        bbox = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
        style = {"fontsize": 7, "weight": "bold", "color": "black", "bbox": bbox, "gid": "number"}
        self._text(x + width / 2, y + height / 2, text, **style)
