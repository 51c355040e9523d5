# SPDX-License-Identifier: GPL-3.0-or-later
import os
import re

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


def read(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def requirements():
    """The lines of requirements.txt: these pins run with TensorFlow 1.15 on Python 3.7."""
    lines = (line.split("#")[0].strip() for line in read("requirements.txt").splitlines())
    return [line for line in lines if line]


setup(
    name="sqair",
    version=re.search(r'^__version__ = "([^"]+)"', read("sqair/__init__.py"), re.MULTILINE).group(1),
    description="Sequential Attend, Infer, Repeat: a generative model of moving objects",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    license_files=["LICENSE"],
    packages=find_packages(include=["sqair", "sqair.*"]),
    package_data={"sqair.data": ["*.npz", "*.md", "*.txt"], "sqair.evaluation": ["*.html"]},
    python_requires="==3.7.*",
    install_requires=requirements(),
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)",
        "Programming Language :: Python :: 3.7",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
