# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from absl import flags
from orderedattrdict import AttrDict

from sqair import framing_flags
from sqair.data.frames import Framing
from sqair.errors import UserError

DEFAULTS = {flag.name: flag.default for flag in flags.FLAGS.flags_by_module_dict()[framing_flags.__name__]}


def test_without_flags_frames_are_prepared_as_by_default():
    assert framing_flags.framing(AttrDict(DEFAULTS)) == Framing()


def test_every_flag_is_used():
    values = dict(crop="1, 2,30,40", invert=True, background="cutout", min_difference=0.5, gain=2.0)
    assert set(values) == set(DEFAULTS)
    wanted = Framing((1, 2, 30, 40), (9, 8), True, True, "cutout", 0.5, 2.0)
    assert framing_flags.framing(AttrDict(values), (9, 8), True) == wanted


@pytest.mark.parametrize(
    "crop", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "", "-1,0,5,5", "0,0,1e3,5", "0,0,9999999,5"]
)
def test_a_crop_is_four_numbers(crop):
    with pytest.raises(UserError, match=f"^`crop={crop}` is refused: it takes four numbers of pixels"):
        framing_flags.framing(AttrDict(DEFAULTS, crop=crop))
