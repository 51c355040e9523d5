# SPDX-License-Identifier: GPL-3.0-or-later
"""An evaluation as `sqair.evaluation.evaluations.evaluate` returns it."""

from sqair.evaluation import evaluations, quantities

FRAMES = 4


def entry(**changes):
    """Every quantity has a mean of its own, 100, 101, ..., less a half in the first frame."""
    estimates = {}
    for i, name in enumerate(quantities.TITLES):
        mean = 100.0 + i
        by_frame = [mean - 0.5, mean, mean, mean + 0.5]
        estimates[name] = dict(
            mean=mean, standard_error=0.25, by_frame=by_frame, by_frame_error=[0.5] * FRAMES
        )
    scores = {
        kind: dict(
            {name: 10.0 * i + j for j, name in enumerate(quantities.TRACKING)},
            mota_by_frame=[None, 0.5 + i, 0.75, 0.25],
        )
        for i, kind in enumerate(quantities.BOXES, 1)
    }
    request = evaluations.Request("model-7", 7, "w123", "d456", "valid", 1234, FRAMES, 5, 0, 99, 1, "iwae")
    return dict(
        request._asdict(),
        estimates=estimates,
        confusion=[[3000.0, 11.0], [12.0, 13.0]],
        visible_confusion=[[21.0, 22.0], [23.0, 24.0]],
        objects=dict(scores, foreground_ari=None, foreground_ari_videos=17),
        **changes,
    )
