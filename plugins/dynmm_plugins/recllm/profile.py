"""What is known of a user and of an item, in words, as tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dynmm_framework.errors import StageError
from dynmm_framework.language.tokens import TextTokens
from dynmm_framework.protocols import IntArray, LanguageModel
from dynmm_plugins.recllm.config import RecLLMConfig

Tokens = tuple[int, ...]


class Writer:
    """Writes profiles and questions for one language model.

    Args:
        config: Settings.
        titles: Title of each item, empty where it has none.
        kinds: What each item is, as many words as there are.
        llm: Gives the tokenizer and the context.

    Attributes:
        head: Tokens that every prompt begins with.
        grades: The token by which each answer begins, the worst first.
        cut: Profiles so far that lost their oldest titles.
        written: Profiles so far.
    """

    def __init__(
        self,
        config: RecLLMConfig,
        titles: Sequence[str],
        kinds: Sequence[Sequence[str]],
        llm: LanguageModel,
    ) -> None:
        self.config, self.kinds = config, kinds
        self.text = TextTokens(llm.tokenizer)
        words = config.template
        self.head: Tokens = (*self.text.start, *self.text.literal(words.system))
        self.grades = _first_tokens(self.text, config)
        self.cut = self.written = 0
        self._context = llm.context_length
        self._parts = {
            name: self.text.literal(getattr(words, name))
            for name in ("often", "lately", "entry", "item", "kind", "task")
        }
        self._titles = [self.text.item(title, limit=words.title_tokens) for title in titles]
        self._kinds = [
            self.text.item(", ".join(own), limit=words.title_tokens) for own in self.kinds
        ]

    def titled(self, item: int) -> bool:
        """Tells whether an item has a title."""
        return bool(self._titles[item])

    def question(self, item: int) -> Tokens:
        """Returns what follows a profile to ask for one item, up to the grade."""
        parts, kinds = self._parts, self._kinds[item]
        described = (*parts["kind"], *kinds) if kinds else ()
        return (*parts["item"], *self._titles[item], *described, *parts["task"])

    def interests(self, history: IntArray) -> list[str]:
        """Returns the kinds that a user has most of, in words; ties in the order of letters."""
        counts = Counter(kind for item in history for kind in set(self.kinds[item]))
        best = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
        most = best[: self.config.interests]
        return [f"{kind} ({count} of {len(history)})" for kind, count in most]

    def profile(self, history: IntArray, *, reserve: int) -> Tokens:
        """Returns a user's profile, without the head; the oldest titles go if it is too long.

        Args:
            history: All that the user has, oldest first.
            reserve: Tokens of the context to leave for what follows.

        Raises:
            StageError: If it does not fit without any title.
        """
        parts = self._parts
        limit = self.config.template.title_tokens
        lines = [self.text.item(line, limit=limit) for line in self.interests(history)]
        often = [token for line in lines if line for token in (*parts["entry"], *line)]
        if often:
            often = [*parts["often"], *often]
        fixed = len(self.head) + len(often)
        room = self._context - fixed - reserve
        if room < 0:
            raise StageError(
                f"a profile of {fixed} tokens without any history, with {reserve} to follow, is "
                f"longer than the context of {self._context} tokens",
                hint="Lower interests, shorten the template or title_tokens, or choose a model "
                "with a longer context.",
            )
        newest = history[max(len(history) - self.config.history, 0) :]
        titles = [self._titles[item] for item in newest if self._titles[item]]
        kept: list[int] = []
        room -= len(parts["lately"])
        self.written += 1
        for title in reversed(titles):
            room -= len(parts["entry"]) + len(title)
            if room < 0:
                self.cut += 1
                break
            kept[:0] = (*parts["entry"], *title)
        return (*often, *(parts["lately"] if kept else ()), *kept)


def _first_tokens(text: TextTokens, config: RecLLMConfig) -> Tokens:
    """Returns the tokens that tell grades apart, as they are written behind the question.

    Raises:
        StageError: If two of them begin with the same token.
    """
    task = config.template.task
    before, space = text.literal(task), "" if task[-1].isspace() else " "
    found = []
    for grade in config.grades:
        wanted = space + grade.strip()
        whole = text.literal(task + wanted)
        # Where it melts into what is before it, it is read on its own.
        joined = whole[: len(before)] == before and len(whole) > len(before)
        found.append(whole[len(before)] if joined else text.literal(wanted)[0])
    if len(set(found)) < len(found):
        raise StageError(
            f"two of the grades {', '.join(config.grades)} begin with the same token of this "
            "tokenizer, so no probability tells them apart",
            hint="Choose other words in grades.",
        )
    return tuple(found)
