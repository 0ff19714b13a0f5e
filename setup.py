"""Build of the core library and the command ``lift``, without ROS. ROS workspaces use CMakeLists.txt instead."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CORE = "core"
CPP = ("render", "evidence", "lifting")


def requirements(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


class BuildPython(build_py):
    """Puts package.xml into the package, where ``lift_ros.__version__`` reads it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copy2(ROOT / "package.xml", Path(self.build_lib) / "lift_ros")


class BuildLibraries(build_ext):
    """Builds what is in C++ with CMake, into the package (or the source tree for an editable installation)."""

    def run(self) -> None:
        target = ROOT if self.inplace else Path(self.build_lib).resolve()
        for folder in CPP:
            source = ROOT / "lift_ros" / folder / "csrc"
            build = Path(self.build_temp).resolve() / folder
            subprocess.check_call(["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"])
            subprocess.check_call(["cmake", "--build", build])
            subprocess.check_call(["cmake", "--install", build, "--prefix", target])

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


setup(
    version=ElementTree.parse(ROOT / "package.xml").findtext("version"),
    packages=find_packages(include=["lift_ros", "lift_ros.*"], exclude=["lift_ros.ros", "lift_ros.ros.*"]),
    install_requires=requirements(CORE),
    extras_require={
        path.stem: requirements(path.stem) for path in (ROOT / "requirements").glob("*.txt") if path.stem != CORE
    },
    cmdclass={"build_py": BuildPython, "build_ext": BuildLibraries},
    include_package_data=False,
    # marks the wheel as platform-specific
    ext_modules=[Extension(f"lift_ros.{folder}.csrc", sources=[]) for folder in CPP],
)
