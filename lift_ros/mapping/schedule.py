"""How much training is owed, of what, and at which learning rates."""

from __future__ import annotations

from lift_ros.mapping.config import MappingConfig

STEPS_AT_ONCE = 5  # training steps of one kind in a row, short enough that a frame does not wait for long
ANNEAL_TO = 0.1  # of their values, learning rates fall in the training at the end
STILL = 0.5  # share of that training, its last, in which nothing is split or pruned and embeddings come to rest


class Schedule:
    """Training steps that are owed: "photometric" ones of the scene, and "lifting" ones of embeddings.

    While frames come, each keyframe brings some of both, and the kind of which more are owed is next. In the training
    at the end one kind has its turn after the other (``end_with``).
    """

    def __init__(self, config: MappingConfig, lifting: bool) -> None:
        """``lifting``: whether there are embeddings to train; else none of their steps is ever owed."""
        self._each = {"photometric": config.photometric_steps, "lifting": config.lifting_steps if lifting else 0}
        self._max_backlog = config.max_backlog
        self._owed = dict.fromkeys(self._each, 0)
        self._turn: str | None = None
        self._final = 0  # steps of this turn, done ones too

    @property
    def ending(self) -> bool:
        """Whether this is the training at the end."""
        return self._turn is not None

    @property
    def settling(self) -> bool:
        """Whether it is the last part of that, in which the Gaussians stay as many as they are."""
        return self._left <= STILL

    @property
    def _left(self) -> float:
        """Share of the turn at the end that is left; 1 while frames come."""
        return self._owed[self._turn] / self._final if self._turn and self._final else 1.0

    def owed(self, kind: str) -> int:
        """Steps that are owed of a kind."""
        return self._owed[kind]

    def add_keyframe(self) -> int:
        """Owe what a keyframe brings; returns how many steps are skipped because too many are owed already."""
        skipped = 0
        for kind, each in self._each.items():
            owed = self._owed[kind] + each
            self._owed[kind] = min(owed, self._max_backlog * each)
            skipped += owed - self._owed[kind]
        return skipped

    def next(self, at_most: int = STEPS_AT_ONCE) -> tuple[str, int]:
        """The kind to train next and how many steps, 1 to ``at_most``, which are owed no longer; 0 where none are."""
        kind = self._turn or max(self._owed, key=lambda name: self._owed[name])
        count = min(at_most, self._owed[kind])
        self._owed[kind] -= count
        return kind, count

    def rate(self, kind: str) -> float:
        """What learning rates are multiplied with."""
        return ANNEAL_TO ** (1 - self._left if kind == "photometric" else max(1 - self._left / STILL, 0))

    def end_with(self, kind: str, steps: int) -> None:
        """Train one kind alone from now on: what is owed of it, and ``steps`` more."""
        self._owed[kind] += steps
        self._turn, self._final = kind, self._owed[kind]

    def go_on(self) -> None:
        """Frames may come again after the training at the end."""
        self._owed = dict.fromkeys(self._each, 0)
        self._turn = None
