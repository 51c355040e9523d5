#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads trained models that a manifest lists, checks them, and unpacks each into a folder of its own.

What has arrived is kept when the connection ends, and the next call goes on from there. A folder that is there already
is left as it is. scripts/pack_model.py makes archives and a manifest.
"""

import functools
import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli
from sqair.data import model_downloads

flags.DEFINE_string(
    "manifest",
    os.path.join("models", model_downloads.MANIFEST),
    "Path or address of the list of models: a JSON file with name, address, size and sha256 of each.",
)
flags.DEFINE_list("models", [], "Names of the models to download; all by default.")
flags.DEFINE_string("models_dir", "models", "Folder that their folders go into.")
flags.DEFINE_float("timeout", 3600.0, "Seconds that one archive may take.", lower_bound=0.1)


def main(flags):
    from tqdm import tqdm

    entries = model_downloads.read_manifest(flags.manifest)
    # Without a terminal, `disable=None` shows no bar.
    bar = functools.partial(tqdm, unit="B", unit_scale=True, dynamic_ncols=True, disable=None)
    for entry in model_downloads.choose(entries, flags.models, flags.manifest):
        folder, is_new = model_downloads.fetch(entry, flags.models_dir, flags.timeout, bar)
        print(f"Downloaded {folder}." if is_new else f"{folder} is there already and stays as it is.")


if __name__ == "__main__":
    cli.run(main)
