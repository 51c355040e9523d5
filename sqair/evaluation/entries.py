# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found, kept in a folder: an entry for each request, in a file of JSON, and a table of the same beside it."""

import csv
import json
import os
from typing import Any, NamedTuple

from sqair.errors import UserError
from sqair.files import atomic_write


class Kind(NamedTuple):
    """What a folder keeps entries of."""

    json: str  # file name; it holds a dict of `key` -> list of entries
    csv: str  # file name
    key: str
    title: str  # for messages
    request: Any  # named tuple class: an entry is a dict of its fields and of what was found
    check: Any  # completes an older entry in place; KeyError, TypeError, ValueError, AttributeError if it is damaged
    order: Any  # entry -> what entries are sorted by
    rows: Any  # list of entries -> rows of the table


class Entries:
    """The entries of one `Kind` that a folder keeps."""

    def __init__(self, folder, kind):
        """Takes the folder, which must exist, and a `Kind`."""
        self.folder, self._kind = folder, kind

    def entries(self):
        """All that is known: list of dict.

        Raises:
            UserError: if the file is damaged.
        """
        path = self._path(self._kind.json)
        if not os.path.exists(path):
            return []
        try:
            with open(path) as file:
                entries = json.load(file)[self._kind.key]
            for entry in entries:
                self._kind.check(entry)
                self._request_of(entry)
            return entries
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} cannot be read as {self._kind.title} ({type(error).__name__}: {error}); move it away to begin"
                " anew."
            ) from None

    def find(self, request):
        """The entry of a request, None if there is none yet."""
        return next((entry for entry in self.entries() if self._request_of(entry) == request), None)

    def add(self, entry):
        """Writes both files anew with one entry more, which replaces that of the same request."""
        others = [old for old in self.entries() if self._request_of(old) != self._request_of(entry)]
        entries = sorted([*others, entry], key=self._kind.order)
        with atomic_write(self._path(self._kind.json)) as file:
            json.dump({self._kind.key: entries}, file, indent=1)
            file.write("\n")
        with atomic_write(self._path(self._kind.csv)) as file:
            csv.writer(file, lineterminator="\n").writerows(self._kind.rows(entries))

    def _request_of(self, entry):
        return self._kind.request(*(entry[name] for name in self._kind.request._fields))

    def _path(self, name):
        return os.path.join(self.folder, name)


def plain_rows(entries):
    """Rows of a table of flat entries: a header, then one for each, with None for what it lacks."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return [names, *([entry.get(name) for name in names] for entry in entries)]
