# SPDX-License-Identifier: GPL-3.0-or-later
import os
import re

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


def read(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def requirements(name, python):
    """The lines of a file of requirements, asked for with these versions of Python alone."""
    lines = (line.split("#")[0].strip() for line in read(name).splitlines())
    parts = (line.partition(";")[::2] for line in lines if line)
    return [f"{pin}; {python} and ({marker})" if marker else f"{pin}; {python}" for pin, marker in parts]


TF1 = requirements("requirements.txt", "python_version < '3.8'")
TF2 = requirements("requirements-tf2.txt", "python_version >= '3.10'")


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
    python_requires=">=3.7,<3.13,!=3.8.*,!=3.9.*",
    install_requires=TF1 + TF2,
    extras_require={
        "tf2": TF2,
        "gpu": [pin.replace("tensorflow==", "tensorflow[and-cuda]==") for pin in TF2[:1]],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)",
        "Programming Language :: Python :: 3.7",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
