"""Which blocks of a pipeline name a component or otherwise choose what their settings mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynmm_framework.specs import Kind, Slot


@dataclass(frozen=True, slots=True)
class Choice:
    """A block in which one key chooses what the other settings mean.

    Changing that key, in a file that extends another or by an override, drops the settings that
    belonged to the old choice.

    Attributes:
        path: Where the block is; ``*`` stands for any index.
        key: The key that chooses.
        settings: The keys that belong to the choice; ``None`` for all others.
        kinds: The kinds of component that may be named; empty if it is not a component.
        slot: The slot of an adapter.
    """

    path: tuple[str, ...]
    key: str = "name"
    settings: tuple[str, ...] | None = ("config",)
    kinds: tuple[Kind, ...] = ()
    slot: Slot | None = None

    @property
    def is_component(self) -> bool:
        return bool(self.kinds)

    def owns(self, key: str) -> bool:
        """Tells whether a key of the block belongs to the choice."""
        return key != self.key if self.settings is None else key in self.settings


CHOICES: tuple[Choice, ...] = (
    Choice(("data",), kinds=("dataset",)),
    Choice(("split",), key="strategy", settings=None),
    Choice(("backbone",), kinds=("backbone",)),
    Choice(("baseline",), kinds=("baseline",)),
    Choice(("encoders", "text"), kinds=("encoder",)),
    Choice(("encoders", "vision"), kinds=("encoder",)),
    Choice(("encoders", "audio"), kinds=("encoder",)),
    Choice(("align",), kinds=("adapter",), slot="align"),
    Choice(("ablation", "*", "align"), kinds=("adapter",), slot="align"),
    Choice(("prompt",), kinds=("adapter",), slot="prompt"),
    Choice(("ablation", "*", "prompt"), kinds=("adapter",), slot="prompt"),
    Choice(("evidence", "*"), kinds=("evidence",)),
    Choice(("explain", "llm"), kinds=("language_model",)),
    Choice(("online",), kinds=("adapter",), slot="online"),
    Choice(("evaluate", "compare_with", "*"), kinds=("baseline", "backbone")),
    Choice(("tracking",), settings=("options",)),
)
"""Every block of a pipeline with a choice; each ``ComponentRef`` is among them."""


def choice_at(path: Sequence[str | int]) -> Choice | None:
    """Returns the choice that the block at ``path`` makes, if it makes one."""
    for choice in CHOICES:
        if len(choice.path) == len(path) and all(
            wanted in ("*", part) for wanted, part in zip(choice.path, path, strict=True)
        ):
            return choice
    return None


def component_blocks(data: Any) -> Iterator[tuple[tuple[str | int, ...], Choice, Any]]:
    """Yields path, choice and content of every block of raw data that names a component."""
    for choice in CHOICES:
        if choice.is_component:
            for path, value in _at(data, choice.path):
                yield path, choice, value


def _at(data: Any, pattern: tuple[str, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if not pattern:
        yield (), data
        return
    children: Iterable[tuple[str | int, Any]] = ()
    if pattern[0] == "*":
        children = enumerate(data) if isinstance(data, list) else ()
    elif isinstance(data, Mapping) and data.get(pattern[0]) is not None:
        children = [(pattern[0], data[pattern[0]])]
    for part, child in children:
        for path, value in _at(child, pattern[1:]):
            yield (part, *path), value
