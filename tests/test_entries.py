# SPDX-License-Identifier: GPL-3.0-or-later
import csv
import json
import os
from typing import NamedTuple

import pytest

from sqair.errors import UserError
from sqair.evaluation.entries import Entries, Kind, plain_rows


class Request(NamedTuple):
    name: str
    size: int


def check(entry):
    entry.setdefault("size", 1)
    float(entry["score"])


KIND = Kind(
    "x.json", "x.csv", "tries", "what was tried", Request, check, lambda entry: entry["size"], plain_rows
)


@pytest.fixture
def store(tmp_path):
    return Entries(str(tmp_path), KIND)


def rows_of(store):
    with open(os.path.join(store.folder, "x.csv"), newline="") as file:
        return list(csv.reader(file))


def test_entries_are_found_by_their_request_and_replaced_by_their_like(store):
    large, small = dict(name="a", size=3, score=0.5), dict(name="a", size=2, score=0.25)
    assert store.entries() == [] and store.find(Request("a", 3)) is None
    store.add(large)
    store.add(small)
    assert store.entries() == [small, large] and store.find(Request("a", 3)) == large
    assert store.find(Request("b", 3)) is None
    store.add(dict(large, score=1.0))
    assert [entry["score"] for entry in store.entries()] == [0.25, 1.0]
    assert rows_of(store) == [["name", "size", "score"], ["a", "2", "0.25"], ["a", "3", "1.0"]]


def test_entries_of_other_versions_have_columns_of_their_own(store):
    store.add(dict(name="old", size=1, score=1, seconds=7))
    store.add(dict(name="new", size=2, score=2, updates=9))
    assert rows_of(store) == [
        ["name", "size", "score", "seconds", "updates"],
        ["old", "1", "1", "7", ""],
        ["new", "2", "2", "", "9"],
    ]


def test_an_older_entry_is_completed(store):
    with open(os.path.join(store.folder, "x.json"), "w") as file:
        json.dump({"tries": [dict(name="a", score=1)]}, file)
    assert store.find(Request("a", 1)) == dict(name="a", size=1, score=1)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"tries": 3}', '{"tries": [{"name": "a"}]}', '{"tries": [{"score": 1}]}']
)
def test_a_damaged_file_is_named_and_left_as_it_is(store, content):
    path = os.path.join(store.folder, "x.json")
    with open(path, "w") as file:
        file.write(content)
    with pytest.raises(
        UserError, match=r"x.json cannot be read as what was tried \(.*move it away to begin anew"
    ):
        store.add(dict(name="a", size=1, score=1))
    with open(path) as file:
        assert file.read() == content
    assert os.listdir(store.folder) == ["x.json"]
