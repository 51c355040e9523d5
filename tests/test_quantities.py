# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import stub_evaluation

from sqair.evaluation import quantities


def test_the_bounds_come_first_for_whole_sequences():
    found = list(quantities.in_order(stub_evaluation.entry()))
    assert [name for name, *_ in found] == ["iwae", "vae", *quantities.TITLES]
    assert found[0][1:5] == ("IWAE bound", "nats per sequence", 400.0, 1.0)
    assert found[0][5] == [99.5, 199.5, 299.5, 400.0] and found[2][3:5] == (100.0, 0.25)


def test_a_table_states_particles_and_units():
    text = quantities.table(stub_evaluation.entry())
    assert text.startswith("model-7 after 7 updates: 1,234 valid sequences of 4 frames, K = 5")
    assert "IWAE bound, nats per sequence" in text and "IWAE bound, nats per frame" in text
    assert all(title in text for title, _ in quantities.TITLES.values())
    assert "tracking, 99 sequences, IoU at least 0.5" in text and "FG-ARI undefined" in text
    unknown = dict(stub_evaluation.entry(), step=None)
    assert "after an unknown number of updates" in quantities.table(unknown)


def test_of_resampled_particles_the_bound_is_called_so_and_there_is_no_elbo():
    filtered = dict(stub_evaluation.entry(), bound="fivo")
    older = quantities.table(filtered)
    del filtered["estimates"]["normalised_vae"]
    text = quantities.table(filtered)
    assert text == older and "FIVO bound, nats per sequence" in text
    assert "IWAE" not in text and "ELBO" not in text
    assert [name for name, *_ in quantities.in_order(filtered)][:3] == ["iwae", "normalised_iwae", "data_ll"]
    with pytest.raises(KeyError):  # of others it is missing
        quantities.table(dict(filtered, bound="iwae"))


def test_a_single_sequence_has_no_error_and_what_is_not_annotated_no_row():
    entry = dict(stub_evaluation.entry(), objects=None, confusion=[], visible_confusion=[])
    for name in quantities.COUNTED:
        del entry["estimates"][name]
    for estimate in entry["estimates"].values():
        estimate["standard_error"] = None
    assert len(list(quantities.in_order(entry))) == len(quantities.TITLES)
    text = quantities.table(entry)
    assert "tracking" not in text and "right count" not in text and "frames with" not in text


def test_a_model_without_objects_has_bounds_and_errors_alone():
    entry = dict(stub_evaluation.entry(), objects=None, confusion=[], visible_confusion=[])
    for name in quantities.OF_OBJECTS:
        del entry["estimates"][name]
    names = [name for name, *_ in quantities.in_order(entry)]
    assert names == ["iwae", "vae", "normalised_iwae", "normalised_vae", "data_ll", "kl", "mse", "ess"]
    assert "objects" not in quantities.table(entry)


def test_rows_of_several_lengths_fit_one_header():
    short = stub_evaluation.entry()
    for estimate in short["estimates"].values():
        estimate["by_frame"] = estimate["by_frame"][:2]
    header, *rows = quantities.csv_rows(
        [dict(short, frames=2), stub_evaluation.entry()], ("checkpoint", "frames")
    )
    assert header == [
        "checkpoint",
        "frames",
        "name",
        "unit",
        "mean",
        "standard_error",
        *map("frame_{}".format, "1234"),
    ]
    assert rows[0][:5] == ["model-7", 2, "iwae", "nats per sequence", 200.0] and len(rows[0]) == 8
    assert len(rows) == 2 * (len(quantities.TITLES) + 2) and len(rows[-1]) == 10
