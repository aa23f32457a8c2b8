"""The split that keeps users apart: whoever is asked has never been learned from."""

from __future__ import annotations

import numpy as np

from dynmm_framework.config.pipeline import UserDisjoint
from dynmm_framework.data.arrow import counted
from dynmm_framework.data.parts import HISTORY, TEST, TRAIN, UNUSED, VALID, Assigned, share
from dynmm_framework.data.tables import Interactions


def user_disjoint(rows: Interactions, block: UserDisjoint) -> Assigned:
    """Cuts users, in the order in which the data names them, into training, validation and test.

    What comes after ``min_history`` other interactions of its user is an example; the shares are
    of examples. Those before a user's first example are what is known of the user: learned from
    if that example is for training, part of histories otherwise.

    This is TALLRec's recipe (Bao et al., RecSys 2023), with ``examples: 10000`` and
    ``whole_users: false``.
    """
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows.users, minlength=rows.n_users))])
    place = np.arange(len(rows)) - starts[rows.users]
    examples = np.flatnonzero(place >= block.min_history)
    notes = []
    if block.examples is not None and block.examples < len(examples):
        notes.append(f"{counted(len(examples) - block.examples, 'earlier example')} left out")
        examples = examples[-block.examples :]
    n = np.asarray(len(examples))
    first, second = (int(share(ratio, n)) for ratio in (block.ratios[0], sum(block.ratios[:2])))
    part = np.full(len(examples), TRAIN, np.int8)
    part[first:second], part[second:] = VALID, TEST
    users, begin, of_user = np.unique(rows.users[examples], return_index=True, return_inverse=True)
    if block.whole_users:
        part = part[begin][of_user]
    else:
        several = np.zeros(len(users), np.bool_)
        several[of_user[part != part[begin][of_user]]] = True
        if several.any():
            notes.append(
                f"{counted(int(several.sum()), 'user')} with examples in two parts, as the cuts "
                "are between examples"
            )
    parts = np.full(len(rows), UNUSED, np.int8)
    for back in range(1, block.min_history + 1):
        parts[examples[begin] - back] = np.where(part[begin] == TRAIN, TRAIN, HISTORY)
    parts[examples] = part
    asked = np.unique(rows.users[parts != UNUSED])
    if unused := np.count_nonzero(np.diff(starts)) - len(asked):
        notes.append(f"{counted(int(unused), 'user')} without an example: unused")
    return parts, notes
