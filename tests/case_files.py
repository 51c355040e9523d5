# SPDX-License-Identifier: GPL-3.0-or-later
"""A stored case in a folder of its own, to be changed."""

import json
import shutil

import numpy as np


class CaseFiles:
    """Copies of CASE.npz and CASE.flags.json, at `path` and `flags_path`."""

    def __init__(self, folder, source):
        self.path, self.flags_path = str(folder / "case.npz"), str(folder / "case.flags.json")
        shutil.copy(source, self.path)
        shutil.copy(source[: -len(".npz")] + ".flags.json", self.flags_path)

    def change(self, **arrays):
        """Sets arrays (None removes one); `__` in a name stands for `/`."""
        with np.load(self.path) as stored:
            everything = dict(stored)
        for name, value in arrays.items():
            name = name.replace("__", "/")
            if value is None:
                del everything[name]
            else:
                everything[name] = value(everything[name]) if callable(value) else value
        np.savez(self.path, **everything)

    def change_flags(self, **changes):
        """Sets flags; None removes one."""
        with open(self.flags_path) as file:
            flags = json.load(file)
        flags.update(changes)
        with open(self.flags_path, "w") as file:
            json.dump({name: value for name, value in flags.items() if value is not None}, file)
