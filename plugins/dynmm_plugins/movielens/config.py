"""Settings of the MovieLens readers."""

from __future__ import annotations

from dynmm_framework.config.blocks import Block


class MovieLens100KConfig(Block):
    """Where MovieLens-100K is."""

    path: str | None = None
    """Folder with ``u.data``, ``u.item`` and ``u.user``, or with ``ml-100k.inter``, ``.item`` and
    ``.user`` (RecBole's atomic files); null fetches the registered data set.
    """


class MovieLens1MConfig(Block):
    """Where MovieLens-1M is, and which of it is read."""

    path: str | None = None
    """Folder with ``ratings.dat``, or with ``ml1m_sequences.parquet``; null fetches the registered
    data set. Read when they are there: ``movies.dat``, ``users.dat``, ``dbpedia_abstracts.json``
    and ``posters/<MovieID>.jpg``.
    """
    timed_only: bool = False
    """Of ``ml1m_sequences.parquet``, read only the rows with rating and time. They are the minority
    of low ratings left out: ratings of 4 and more are over-represented, so nothing measured on
    them speaks of ratings in general. Without it all rows are read, in their order, without
    times and ratings.
    """
    keep_unseen_items: bool = False
    """Keep the movies that nobody watched in the catalogue."""
