"""Which device a map is trained on."""

from __future__ import annotations

import importlib.machinery
import importlib.util

import pytest
import torch

from lift_ros.config import Config
from lift_ros.errors import ConfigError
from lift_ros.mapping import prepare
from lift_ros.mapping.prepare import training_device
from lift_ros.options import with_values


def wanting(device: str) -> Config:
    return with_values(Config(), {"mapping.device": device})


@pytest.fixture(params=[None, importlib.machinery.ModuleSpec("gsplat", None)], ids=["no gsplat", "broken gsplat"])
def seeming(request, monkeypatch):
    """A computer that seems to have a CUDA device, on which nothing can be drawn."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: request.param)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    prepare._try_cuda.cache_clear()
    yield
    prepare._try_cuda.cache_clear()


def test_a_device_that_cannot_be_drawn_on_is_refused_where_it_is_insisted_on(seeming):
    with pytest.raises(ConfigError, match="mapping.device is cuda, but .*gsplat"):
        training_device(wanting("cuda"))


def test_a_device_that_cannot_be_drawn_on_is_left_alone_where_any_will_do(seeming, caplog):
    assert training_device(wanting("auto")) == torch.device("cpu")
    assert "gsplat" in caplog.text and "mapping on the CPU" in caplog.text
    assert training_device(wanting("cpu")) == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_that_can_be_drawn_on_is_used():
    assert training_device(wanting("auto")) == training_device(wanting("cuda")) == torch.device("cuda")
