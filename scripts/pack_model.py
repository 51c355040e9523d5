#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs a model's folder into an archive for scripts/download_models.sh, and lists it in a manifest beside it.

Put both on any web server, and give the manifest's address to download_models.sh --manifest. The same folder gives the
same bytes.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli
from sqair.data import model_downloads

flags.DEFINE_string(
    "model", os.path.join("models", "mlp_sqair"), "Folder of the model; its name is the model's."
)
flags.DEFINE_string("out_dir", "archives", "Folder that the archive and manifest.json go into.")
flags.DEFINE_string(
    "address", "", "Address of the folder that the archive will be in; without it, beside the manifest."
)


def main(flags):
    entry = model_downloads.publish(flags.model, flags.out_dir, flags.address)
    print(f"Packed {entry.name}: {entry.size} bytes, SHA-256 {entry.sha256}, listed in {flags.out_dir}.")


if __name__ == "__main__":
    cli.run(main)
