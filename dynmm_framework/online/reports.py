"""What is told of every window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WindowReport:
    """What happened in one window.

    Attributes:
        window: Its number, from 1.
        events: Events that counted.
        time: Unix seconds of its last event.
        metrics: By strategy: hit@k and ndcg@k before learning, means over events.
        served: What the guards of a strategy let through, by strategy: λ as ``correction``, and the
            parts of their weights as ``popularity`` and ``long_term_popularity``.
        losses: Of the last step of the first adapter.
        predict_ms: Milliseconds to predict, all strategies together.
        update_ms: Milliseconds to learn, likewise.
        drift: Whether the first strategy's metric gave an alarm.
        boosted: Whether the window was learned faster, after an alarm.
        retained: NDCG@10 on the sample from before the stream after this window, by strategy,
            where it was measured, its users met as not having come since.
        retained_as_present: The same with its users met as if they had just been there.
    """

    window: int
    events: int
    time: int
    metrics: Mapping[str, Mapping[str, float]]
    served: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    predict_ms: float = 0.0
    update_ms: float = 0.0
    drift: bool = False
    boosted: bool = False
    retained: Mapping[str, float] = field(default_factory=dict)
    retained_as_present: Mapping[str, float] = field(default_factory=dict)
