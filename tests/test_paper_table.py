# SPDX-License-Identifier: GPL-3.0-or-later
import math

import pytest

from sqair.verification import paper_table, reproduction
from sqair.verification.paper_table import Measured, Number, Setting, page, verdicts

SETTING = Setting(frames=10, few=5, many=1000, few_sequences=10000, many_sequences=400, labelled=19910)


def of(**numbers):
    return Measured(3.5, "trained here", 12345, {name: Number(*value) for name, value in numbers.items()})


def test_the_papers_figures_agree_with_each_other():
    """Importance-weighted, what frames are worth less what latents cost exceeds the bound by 0 to log K."""
    for name, paper in paper_table.PAPER.items():
        spare = paper["data_ll"] - paper["kl"] - paper["bound"]
        if "sqair" in name:
            assert 0 <= spare <= math.log(1000), name
        assert abs(spare) < 100, name


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
    others = [value for key, value in found.items() if key != ("addition", "mlp_sqair", "mlp_air")]
    assert len(others) == 15 and set(others) == {(None, None)}


def test_the_papers_own_figures_have_the_order():
    measured = {
        name: Measured(None, "", None, {q: Number(value) for q, value in paper.items()})
        for name, paper in paper_table.PAPER.items()
    }
    holds = {verdict[:3]: verdict.holds for verdict in verdicts(measured)}
    for quantity in ("bound_few", "elbo"):  # it has none of these
        for name in ("mlp_sqair", "conv_sqair"):
            assert holds.pop((quantity, name, "mlp_air")) is None
    assert list(holds.values()) == [True] * 12


def test_the_page_says_what_was_measured_and_what_was_not():
    measured = {
        "mlp_sqair": of(bound=(6423.4, 34.2), bound_few=(6346.0, 7.0), counting=(0.98641, 0.0006)),
        "mlp_air": Measured(
            None, "hours not noted", None, {"bound": Number(6500.0, 12.0), "bound_few": Number(6322.0, 24.0)}
        ),
    }
    text = page(measured, SETTING, {"Bound by hours": "x.png"}, "reproduce --hours=4")
    assert "    reproduce --hours=4\n" in text and "![Bound by hours](x.png)" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
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
    assert len(paper) == 5 and "as remembered; not re-read" in text
    assert "K = 1,000 on the first 400 sequences, K = 5 on 10,000" in text and "from 19,910 others" in text
    assert "| log p(x), K = 1,000 | MLP-SQAIR | MLP-AIR | **no**, by 2.1 standard errors |" in text
    assert "| log p(x), K = 5 | MLP-SQAIR | MLP-AIR | yes, by 1.0 standard errors |" in text
    assert "| counting | MLP-SQAIR | MLP-AIR | not measured |" in text
    assert "measured on different sequences" in text  # but they were not
    assert "not trained for the same time" not in text
    measured["mlp_air"] = measured["mlp_air"]._replace(hours=1.0)
    assert "not trained for the same time" in page(measured, SETTING, {}, "")
    columns = {line.count("|") for line in text.splitlines() if line.startswith("| ") and "hours" not in line}
    assert columns == {11, 5}
