# SPDX-License-Identifier: GPL-3.0-or-later
"""A record of what is written out to the disk, renamed and removed, in order."""

import os
import shutil


def record(monkeypatch):
    """Starts a list of `("fsync", path, size or None for a folder)`, `("replace", path)`, `("remove", path)`."""
    events = []
    fsync = os.fsync

    def recorded_fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append(("fsync", path, None if os.path.isdir(path) else os.path.getsize(path)))
        fsync(descriptor)

    def recorded(module, name, kind, position):
        function = getattr(module, name)

        def call(*arguments, **options):
            result = function(*arguments, **options)
            events.append((kind, arguments[position]))
            return result

        monkeypatch.setattr(module, name, call)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    recorded(os, "replace", "replace", 1)
    recorded(os, "rename", "replace", 1)
    recorded(os, "remove", "remove", 0)
    recorded(shutil, "rmtree", "remove", 0)
    return events
