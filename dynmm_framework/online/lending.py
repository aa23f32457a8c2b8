"""What is read while it changes: readers keep what they were lent, without a copy for each."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
C = TypeVar("C")


class Lease:
    """Held by whoever reads something lent; as long as it lives, that is not written to."""

    __slots__ = ("__weakref__",)


class Lent(Generic[T, C]):
    """Something that is written in place, and lent to readers as it is.

    What is written after it was lent is written to a second one, which is behind by what was
    written since it was lent itself. As soon as nobody reads it any more these changes are made up
    for and the two change places, so that lending costs as much as what is written, however large
    the whole is. While somebody still reads the second one there is a copy. The holder of the only
    reference that writes must be one thread; readers may be of others.

    Args:
        whole: What is written to and lent.
        copied: Returns a copy.
        change: Writes a change, in place; twice it gives the same as once on each of two copies.
    """

    def __init__(
        self, whole: T, *, copied: Callable[[T], T], change: Callable[[T, C], None]
    ) -> None:
        self.whole = whole
        self._copied, self._change = copied, change
        self._readers: Callable[[], Lease | None] = _nobody
        self._other: tuple[T, Callable[[], Lease | None]] | None = None
        self._missing: list[C] = []  # in the other one
        self._behind = 0  # size of these

    def lend(self) -> tuple[T, Lease]:
        """Returns the whole as it is, and the lease that the reader has to hold on to."""
        lease = self._readers()
        if lease is None:
            lease = Lease()
            self._readers = weakref.ref(lease)
        return self.whole, lease

    def borrowed(self, lease: Lease) -> None:
        """Says that the whole is someone else's: before it is written to, it is copied."""
        self._readers = weakref.ref(lease)

    def write(self, change: C, *, size: int, most: int) -> None:
        """Writes a change.

        Args:
            change: The change; it is kept for a while and must stay as it is.
            size: Its size.
            most: Size of the changes from which on a copy is cheaper than to make up for them.
        """
        self._change(self.owned(), change)
        if self._other is not None:
            self._missing.append(change)
            self._behind += size
            if self._behind > most:
                self._forget()

    def owned(self) -> T:
        """Returns the whole, which nobody reads now."""
        if self._readers() is None:
            return self.whole
        lent = (self.whole, self._readers)
        if self._other is not None and self._other[1]() is None:
            self.whole = self._other[0]
            for change in self._missing:
                self._change(self.whole, change)
        else:
            self.whole = self._copied(self.whole)
        self._forget()
        self._readers, self._other = _nobody, lent
        return self.whole

    def rewritten(self) -> T:
        """Returns the whole, to be written otherwise than by a change."""
        self._forget()
        whole = self.owned()
        self._forget()
        return whole

    def _forget(self) -> None:
        self._other, self._missing, self._behind = None, [], 0


def _nobody() -> None:
    """Stands for a reference to a lease that nobody holds."""
