# SPDX-License-Identifier: GPL-3.0-or-later
"""Films of tracked sequences, frame by frame: the input beside the reconstruction, boxes and trails by object id.

Colours and numbers are those of `sqair.evaluation.sheet`; `sqair.data.video_files.write_video` makes a film of
the frames.
"""

import collections
import functools
import os

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sqair.evaluation.sheet import INK, PAPER, as_rgb, colour_of, number_of, number_place

SIDE = 300  # pixels of the longer side of an image, about
TRAIL = 12  # frames that the way of an object stays visible
_GAP, _TITLE = 10, 26  # pixels between images and around them; the height of the line above
_LINE, _FONT, _NUMBER_FONT = 3, 15, 13


class Annotator:
    """Draws the frames of one video, which come one after the other."""

    def __init__(self, image_shape, titles=("input", "model"), num_slots=0):
        """Fixes the layout.

        Args:
            image_shape: `(H, W, C)` of the model's images, whose pixels boxes are in.
            titles: str above the input and the reconstruction.
            num_slots: int N, to draw as many glimpses; 0 for none.
        """
        self._image_size, self._titles, self._num_slots = tuple(image_shape[:2]), titles, num_slots
        self._scale = max(round(SIDE / max(self._image_size)), 1)
        self.panel = tuple(self._scale * side for side in self._image_size)
        height, width = self.panel
        self._glimpse = max((height - (num_slots - 1) * _GAP) // num_slots, 1) if num_slots else 0
        whole_width = 2 * (width + _GAP) + _GAP + (self._glimpse + _GAP if num_slots else 0)
        whole_height = _TITLE + height + _GAP
        self.size = whole_height + whole_height % 2, whole_width + whole_width % 2  # even, as films need
        self._trails = collections.defaultdict(collections.deque)  # id -> (frame, (y, x)), the last ones
        self._count = 0

    def frame(self, image, reconstruction, boxes, presence, object_ids, glimpses=None):
        """The next frame.

        Args:
            image: `[h, w, C]`, float in [0, 1] or uint8, of any size: it is stretched to the panel's.
            reconstruction: `[H, W, C]`, likewise.
            boxes: `[N, 4]` (y, x, h, w) in pixels of the model's images.
            presence: `[N]`, 1 or 0.
            object_ids: `[N]`, whole numbers, -1 for none.
            glimpses: `[N, g, g, C]`; None for none.

        Returns:
            `[*size, 3]` uint8.
        """
        present = np.flatnonzero((np.asarray(presence) > 0.5) & np.all(np.isfinite(boxes), axis=-1))
        objects = [(np.asarray(boxes[n], np.float64), int(object_ids[n])) for n in present]
        self._extend_trails(objects)
        sheet = Image.new("RGB", self.size[::-1], "white")
        draw = ImageDraw.Draw(sheet)
        for i, (picture, title) in enumerate(zip((image, reconstruction), self._titles)):
            left = _GAP + i * (self.panel[1] + _GAP)
            sheet.paste(self._annotated(picture, objects), (left, _TITLE))
            draw.text((left, _TITLE / 2), title, INK, _font(_FONT), anchor="lm")
        self._count += 1
        right = 2 * (self.panel[1] + _GAP)
        draw.text((right, _TITLE / 2), f"t = {self._count}", INK, _font(_FONT), anchor="rm")
        for n in range(self._num_slots if glimpses is not None else 0):
            colour = colour_of(int(object_ids[n])) if presence[n] > 0.5 else None
            top = _TITLE + n * (self._glimpse + _GAP)
            sheet.paste(self._slot(glimpses[n], colour), (right + _GAP, top))
        return np.asarray(sheet)

    def _extend_trails(self, objects):
        for box, object_id in objects:
            self._trails[object_id].append((self._count, box[:2] + box[2:] / 2))
        for object_id, trail in list(self._trails.items()):
            while trail and trail[0][0] <= self._count - TRAIL:
                trail.popleft()
            if not trail or object_id < 0:
                del self._trails[object_id]

    def _annotated(self, picture, objects):
        panel = stretched(picture, self.panel)
        draw = ImageDraw.Draw(panel, "RGBA")  # colours are laid over what is there
        for object_id, trail in self._trails.items():
            for (_, start), (t, end) in zip(trail, list(trail)[1:]):
                opacity = 1.0 - (self._count - t) / TRAIL
                colour = colour_of(object_id) + f"{round(255 * opacity):02x}"
                draw.line([self._place(start), self._place(end)], fill=colour, width=_LINE)
        for box, object_id in objects:
            top_left, low_right = self._place(box[:2]), self._place(box[:2] + np.maximum(box[2:], 0.0))
            draw.rectangle([top_left, low_right], outline=colour_of(object_id), width=_LINE)
        for box, object_id in objects:
            self._number(draw, box, object_id)
        return panel

    def _number(self, draw, box, object_id):
        place = number_place(box, object_id, self._image_size)
        if place is None:
            return
        corner, at_low, at_right = place
        text, font = number_of(object_id), _font(_NUMBER_FONT)
        width, height = int(draw.textlength(text, font)) + 6, _NUMBER_FONT + 4
        x, y = self._place(corner)
        x, y = x - width * at_right, y - height * at_low
        x, y = (
            min(max(v, 0), most) for v, most in zip((x, y), (self.panel[1] - width, self.panel[0] - height))
        )
        draw.rectangle([x, y, x + width - 1, y + height - 1], fill=colour_of(object_id))
        draw.text((x + width / 2, y + height / 2), text, "black", font, anchor="mm")

    def _slot(self, glimpse, colour):
        """A glimpse with a border of its object's colour; `colour` None stands for an absent slot."""
        rgb = as_rgb(glimpse)
        panel = stretched(rgb if colour else 0.75 * PAPER + 0.25 * rgb, (self._glimpse, self._glimpse))
        if colour:
            side = self._glimpse - 1
            ImageDraw.Draw(panel).rectangle([0, 0, side, side], outline=colour, width=_LINE)
        return panel

    def _place(self, position):
        """`(x, y)` in the panel, at most a panel beyond it, of a position (y, x) in the image."""
        height, width = self.panel
        y, x = np.asarray(position) * self._scale
        return int(np.clip(round(x), -width, 2 * width)), int(np.clip(round(y), -height, 2 * height))


def of_prediction(prediction, sequence, glimpses=True):
    """The frames of one sequence of a `Prediction`: yields `[h, w, 3]` uint8."""
    slots = prediction.presence.shape[2] if glimpses else 0
    annotator = Annotator(prediction.images.shape[2:], num_slots=slots)
    for arrays in zip(*(field[:, sequence] for field in (*prediction.tracks, prediction.glimpses))):
        yield annotator.frame(*arrays)


def stretched(picture, size):
    """A picture as a Pillow image of another size; pixels that grow stay sharp, those that shrink are averaged.

    Args:
        picture: `[h, w, C]`, float in [0, 1] or uint8, C = 1 or 3.
        size: `(height, width)`.
    """
    if np.asarray(picture).dtype == np.uint8:
        picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    else:
        picture = np.rint(255 * as_rgb(picture)).astype(np.uint8)
    image = Image.fromarray(picture)
    grows = picture.shape[0] <= size[0] and picture.shape[1] <= size[1]
    return image.resize(size[::-1], Image.NEAREST if grows else Image.BOX)


@functools.lru_cache(maxsize=None)
def _font(size):
    """The font of the figures."""
    return ImageFont.truetype(
        os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf"), size
    )
