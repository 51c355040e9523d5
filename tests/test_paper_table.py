# SPDX-License-Identifier: GPL-3.0-or-later
import math

import pytest

from sqair.verification import paper_table, reproduction
from sqair.verification.paper_table import Measured, Number, Setting, page, verdicts

SETTING = Setting(frames=10, few=5, many=1000, few_sequences=10000, many_sequences=400, labelled=19910)


def of(**numbers):
    return Measured(3.5, "trained here", 12345, {name: Number(*value) for name, value in numbers.items()})


def test_the_papers_figures_agree_with_each_other_where_they_are_said_to():
    """Importance-weighted, what frames are worth less what latents cost exceeds the bound by 0 to log K."""
    spare = {
        name: paper["data_ll"] - paper["kl"] - paper["bound"] for name, paper in paper_table.PAPER.items()
    }
    for name in ("mlp_sqair", "conv_sqair"):
        assert 0 <= spare[name] <= math.log(1000)
    assert 0 <= spare["mlp_air"] <= 10 * math.log(1000)  # K particles of each frame
    assert (round(spare["conv_vrnn"]), round(spare["mlp_vrnn"])) == (-94, -69)  # as the page says


def test_all_systems_have_a_title_and_the_papers_figures():
    assert list(paper_table.TITLES) == list(reproduction.SYSTEMS)
    assert set(paper_table.PAPER) == set(paper_table.TITLES)


@pytest.mark.parametrize(
    "upper, lower, holds, errors",
    [
        ((0.9, 0.03), (0.8, 0.04), True, 2.0),
        ((0.8, 0.03), (0.9, 0.04), False, 2.0),
        ((0.9, None), (0.8, None), True, None),
    ],
)
def test_an_order_comes_out_or_not_by_so_many_standard_errors(upper, lower, holds, errors):
    measured = {"mlp_sqair": of(addition=upper), "mlp_air": of(addition=lower)}
    found = {v[:3]: (v.holds, v.errors) for v in verdicts(measured)}
    assert found["addition", "mlp_sqair", "mlp_air"] == (holds, errors and pytest.approx(errors))
    del found["addition", "mlp_sqair", "mlp_air"]
    assert len(found) == 42 and set(found.values()) == {(None, None)}


def test_the_order_is_that_of_the_papers_own_figures():
    measured = {
        name: Measured(None, "", None, {q: Number(value) for q, value in paper.items()})
        for name, paper in paper_table.PAPER.items()
    }
    holds = {verdict[:3]: verdict.holds for verdict in verdicts(measured)}
    for (quantity, _, _), it_does in holds.items():
        assert it_does is (None if quantity in ("bound_few", "elbo") else True)  # it has none of these
    for key in (
        ("bound", "conv_vrnn", "mlp_air"), ("elbo", "mlp_sqair", "mlp_air"), ("bound_few", "conv_sqair", "mlp_sqair"),
        ("counting", "mlp_sqair", "conv_sqair"), ("addition", "mlp_air", "conv_vrnn"),
    ):  # fmt: skip
        assert key in holds and (key[0], key[2], key[1]) not in holds


def test_the_page_says_what_was_measured_and_what_was_not():
    measured = {
        "mlp_sqair": of(bound=(6423.4, 34.2), bound_few=(6346.0, 7.0), counting=(0.98641, 0.0006)),
        "mlp_air": Measured(
            None, "hours not noted", None, {"bound": Number(6500.0, 12.0), "bound_few": Number(6322.0, 24.0)}
        ),
    }
    text = page(measured, SETTING, {"Bound by hours": "x.png"}, "reproduce --hours=4")
    assert "    reproduce --hours=4\n" in text and "![Bound by hours](x.png)" in text
    rows = {line.split("|")[1].strip(): line for line in text.split("##")[0].splitlines() if line[:2] == "| "}
    assert rows["MLP-SQAIR"] == (
        "| MLP-SQAIR | 3.50 | 12,345 | 6,423.4 ± 34.2 | 6,346.0 ± 7.0 |  |  |  | 0.9864 ± 0.0006 |  |"
    )
    assert (
        rows["MLP-AIR"] == "| MLP-AIR | unknown | unknown | 6,500.0 ± 12.0 | 6,322.0 ± 24.0 |  |  |  |  |  |"
    )
    assert rows["CONV-VRNN"].startswith("| CONV-VRNN | not trained |")
    paper = [line for line in text.splitlines() if line.startswith("| *the paper*")]
    assert paper[0] == (
        "| *the paper* | *not said* | *not said* | *6617.6* |  |  | *6786.5* | *164.5* | *0.9986* | *0.9998* |"
    )
    assert len(paper) == 5 and "from memory, not checked against the paper" in text
    assert (
        "K = 1,000 on the first 400 sequences, K = 5 on 10,000" in text
        and "the latents of 19,910 others" in text
    )
    verdict = "| MLP-SQAIR | MLP-AIR | **no** (2.1) | yes (1.0) | – | – | – |"
    assert verdict in text and "| above | below | log p(x), K = 1,000 | log p(x), K = 5 | ELBO |" in text
    assert (
        "| MLP-SQAIR | CONV-SQAIR |  |  |  | – | – |" in text
    )  # of which the paper says the opposite, or nothing
    assert "as if the two had been measured on different sequences" in text  # but they were not
    assert "MLP-SQAIR trained here; MLP-AIR hours not noted." in text
    assert "not trained for the same time" not in text
    measured["mlp_air"] = measured["mlp_air"]._replace(hours=1.0)
    assert "not trained for the same time" in page(measured, SETTING, {}, "")


def test_the_page_has_what_classifiers_tell_by_labels_and_by_frame_and_what_they_took():
    def entry(labelled, accuracy):
        return dict(
            labelled=labelled, accuracy=accuracy, standard_error=0.01,
            by_frame=[0.82] + [0.5] * 9, best_update=66000, seconds=413.7,
        )  # fmt: skip

    measured = {
        "mlp_air": of()._replace(additions=[entry(100, 0.25), entry(19910, 0.875)]),
        "mlp_vrnn": of()._replace(additions=[entry(300, 0.125)]),
        "conv_vrnn": of(),
    }
    text = page(measured, SETTING, {}, "").split("## Addition")[1]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows == [
        "| labelled sequences | 100 | 300 | 19,910 |",
        "| --- | --- | --- | --- |",
        "| MLP-AIR | 0.2500 ± 0.0100 |  | 0.8750 ± 0.0100 |",
        "| MLP-VRNN |  | 0.1250 ± 0.0100 |  |",
        "| frame | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | best after updates | seconds |",
        "| --- |" + " --- |" * 12,
        "| MLP-AIR | 0.820 |" + " 0.500 |" * 9 + " 66,000 | 414 |",
    ]


def test_the_page_has_the_bound_and_kl_of_each_frame():
    measured = {
        "mlp_air": of()._replace(by_frame={"normalised_iwae": [601.25] * 10, "kl": [46.5] * 9 + [1.0]}),
        "mlp_vrnn": of()._replace(by_frame={"kl": [12.0] * 10}),
        "conv_vrnn": of(),
    }
    text = page(measured, SETTING, {}, "").split("## Frame by frame")[1].split("## Addition")[0]
    assert [line for line in text.splitlines() if line.startswith(("| MLP", "| CONV"))] == [
        "| MLP-AIR |" + " 601.2 |" * 10,
        "| MLP-AIR |" + " 46.5 |" * 9 + " 1.0 |",
        "| MLP-VRNN |" + " 12.0 |" * 10,
    ]
    assert "log p(x) in nats, K = 5:" in text and "KL in nats, K = 5:" in text
