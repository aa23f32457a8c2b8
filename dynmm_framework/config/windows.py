"""How long a window of a stream is, as it is written in settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SECONDS: Final[Mapping[str, int]] = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class WindowRule:
    """How long a window is: a number of events, or a number of seconds.

    Attributes:
        events: Events of a window; 0 for windows by time.
        seconds: Seconds of a window; 0 for windows by count.
    """

    events: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, value: int | str) -> WindowRule:
        """Reads ``500``, ``500 events``, ``1h``, ``30min``, ``90s``, ``1d`` or ``2w``.

        Raises:
            ValueError: If the value is none of these; says what is.
        """
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return cls(events=value)
        found = re.fullmatch(r"\s*([0-9]{1,9})\s*(events|s|min|h|d|w)\s*", str(value))
        if isinstance(value, bool) or found is None or int(found[1]) < 1:
            raise ValueError(
                f"must be a number of events, as in 500, or a time, as in 1h, 30min or 1d, not"
                f" {value!r}"
            )
        number, unit = int(found[1]), found[2]
        return cls(events=number) if unit == "events" else cls(seconds=number * _SECONDS[unit])
