"""How item vectors are made smaller: the codes for a ratio, and what is used where they cannot be.

Ratios compare float32 with codes. Inverted lists add an identifier of 8 bytes to every item, so
residual codes are used only where that is little beside the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dynmm_framework.errors import ConfigError, PluginError

Compression = Literal["none", "sq8", "sq4", "pq", "opq", "ivfpq"]
Kind = Literal["exact", "ivf"]
Ratio = Literal[4, 8, 16, 32]

CENTROIDS = 256
"""Centroids of a sub-quantiser: codes of one byte."""
LEAST_TRAINING = 39 * CENTROIDS
"""Vectors below which product quantisation is not trained."""
MOST_TRAINING = 256 * CENTROIDS
"""Vectors beyond which training is slower and no better."""
LEAST_PER_LIST = 39
MOST_LISTS = 4096
ID_BYTES = 8
"""What an inverted list holds of each item besides its code."""
MOST_ID_SHARE = 1 / 8
"""Residual codes are used where identifiers are at most this share of the bytes asked for."""
_FIXED: dict[str, int] = {"sq8": 4, "sq4": 8}


def faiss_module() -> Any:
    """Returns the library faiss.

    Raises:
        PluginError: If neither build of it is installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise PluginError(
            "search and compression of latents need faiss, which is not installed",
            hint="Install it with `pip install faiss-cpu`, or with a GPU the extra `gpu`"
            " (pip install 'dynmm-framework[gpu]').",
        ) from error
    return faiss


@dataclass(frozen=True)
class Codes:
    """What an index stores of each vector.

    Attributes:
        compression: What is used; perhaps other than asked for, see ``notes``.
        factory: faiss's description of the index.
        n_lists: Inverted lists; 0 for an index without.
        n_sub: Sub-quantisers; 0 where there is no product quantisation.
        scalar_instead: Whether scalar quantisation took the place of product quantisation.
        notes: Why something is other than asked for, one sentence each.
    """

    compression: Compression
    factory: str
    n_lists: int = 0
    n_sub: int = 0
    scalar_instead: bool = False
    notes: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether there is something to train."""
        return self.factory != "Flat"


def default_compression(ratio: int) -> Compression:
    """Returns what serves a ratio best: scalar at 4, residual product quantisation beyond."""
    return "sq8" if ratio == 4 else "ivfpq"


def choose_codes(
    n: int,
    dim: int,
    *,
    kind: Kind = "exact",
    compression: Compression = "none",
    ratio: int = 16,
    n_training: int | None = None,
) -> Codes:
    """Chooses the index for a number of vectors and a ratio.

    Args:
        n: Vectors to store.
        dim: Their width.
        kind: ``exact`` looks at every item, ``ivf`` at those of the nearest inverted lists.
        compression: What is asked for.
        ratio: Bytes before over bytes after; scalar quantisation has its own (4 or 8).
        n_training: Vectors to train with; all by default.

    Raises:
        ConfigError: If there is no such kind, compression or ratio, or the vectors are too narrow
            for the ratio.
    """
    _check(kind, compression, ratio)
    n_training = min(n, MOST_TRAINING) if n_training is None else min(n, n_training)
    notes: list[str] = []
    scalar = False
    n_sub = 0
    if compression in ("pq", "opq", "ivfpq"):
        wanted = 4 * dim / ratio  # bytes an item
        if wanted < 1:
            raise ConfigError(
                f"vectors of width {dim} cannot be made {ratio} times smaller: an item has"
                f" {4 * dim} bytes, and its code needs one at least",
                hint=f"Ask for a ratio of at most {_nearest_ratio(dim)}.",
            )
        if n_training < LEAST_TRAINING:
            compression, scalar = ("sq8" if ratio == 4 else "sq4"), True
            notes.append(
                f"{n_training:,} vectors are too few to train product quantisation, which needs"
                f" {LEAST_TRAINING:,}: scalar quantisation ({compression}) instead"
            )
        else:
            if compression == "ivfpq" and wanted * MOST_ID_SHARE < ID_BYTES:
                compression = "pq"
                notes.append(
                    f"inverted lists add {ID_BYTES} bytes to an item's {wanted:g}: product"
                    " quantisation without lists (pq) instead"
                )
            n_sub = nearest_divisor(dim, wanted)
            if n_sub != wanted:
                notes.append(
                    f"{wanted:g} sub-quantisers do not divide the width {dim}: {n_sub} instead,"
                    f" which is {4 * dim / n_sub:.3g} times smaller"
                )
    n_lists = 0
    if kind == "ivf" or compression == "ivfpq":
        n_lists = _lists(n, n_training)
    # "np": without polysemous training, which takes most of the time and serves a search unused.
    code = {"none": "Flat", "sq8": "SQ8", "sq4": "SQ4"}.get(compression, f"PQ{n_sub}np")
    factory = f"IVF{n_lists},{code}" if n_lists else code
    if compression == "opq":
        factory = f"OPQ{n_sub},{factory}"
    return Codes(compression, factory, n_lists, n_sub, scalar, tuple(notes))


def nearest_divisor(dim: int, wanted: float) -> int:
    """Returns the divisor of ``dim`` whose ratio to ``wanted`` is nearest to 1."""
    divisors = [m for m in range(1, dim + 1) if dim % m == 0]
    return min(divisors, key=lambda m: (abs(math.log(m / wanted)), m))


def _check(kind: str, compression: str, ratio: int) -> None:
    for what, value, known in (
        ("kind of search", kind, get_args(Kind)),
        ("compression", compression, get_args(Compression)),
        ("ratio", ratio, get_args(Ratio)),
    ):
        if value not in known:
            raise ConfigError(
                f"there is no {what} {value!r}", hint=f"Choose one of {', '.join(map(str, known))}."
            )


def check_fixed_ratio(compression: str, ratio: int) -> None:
    """Refuses a ratio that scalar quantisation does not have.

    Raises:
        ConfigError: If ``compression`` has another ratio.
    """
    fixed = _FIXED.get(compression, ratio)
    if fixed != ratio:
        raise ConfigError(
            f"{compression} makes vectors {fixed} times smaller, never {ratio}",
            hint=f"Ask for the ratio {fixed}, or for another kind.",
        )


def _nearest_ratio(dim: int) -> int:
    return max((ratio for ratio in get_args(Ratio) if 4 * dim >= ratio), default=4)


def _lists(n: int, n_training: int) -> int:
    """About 4 √n inverted lists, a power of two, no more than can be trained."""
    most = max(1, min(MOST_LISTS, n_training // LEAST_PER_LIST))
    wanted = max(1.0, 4 * math.sqrt(max(n, 1)))
    return int(min(2 ** round(math.log2(wanted)), 2 ** int(math.log2(most))))
