"""Errors that a user can act on. The command line prints them without a traceback; the node counts or reports them."""

from __future__ import annotations


class LiftError(Exception):
    """Base of every error whose message names what was wrong and what to do about it."""


class FrameRejected(LiftError):
    """A frame cannot be used.

    ``reason`` is a short snake_case slug, the key under which drops are counted (``pose_not_rigid``, ``image_size``,
    ``depth_encoding``, ...); the message is the sentence for the log.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DatasetError(LiftError):
    """A capture on disk cannot be read: the message names the file and what was expected there."""


class CheckpointError(LiftError):
    """A segmentation checkpoint is missing or is not the file that was named."""


class MapFileError(LiftError):
    """A map directory cannot be read or written."""


class ConfigError(LiftError):
    """A configuration value is unknown or out of range."""
