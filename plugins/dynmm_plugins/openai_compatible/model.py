"""A language model that somebody serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dynmm_framework.artifacts.sources import default_cache
from dynmm_framework.errors import StageError
from dynmm_framework.language.conversation import Completion, Message
from dynmm_framework.protocols import Context
from dynmm_plugins.openai_compatible.answers import Answers
from dynmm_plugins.openai_compatible.config import OpenAICompatibleConfig
from dynmm_plugins.openai_compatible.endpoint import Endpoint

CHARACTERS = 3
"""Characters that a token stands for, at least, in most languages; the rule of thumb of limits."""
_OVERHEAD = 16
"""Tokens around each message."""


class OpenAICompatible:
    """A served model, such as vLLM's, asked by the protocol of OpenAI's chat completions.

    It is a :class:`~dynmm_framework.language.conversation.ChatModel`: it answers in words and has
    no embeddings, so only components that prompt in words can stand on it. The same question is
    sent once only: answers are kept on disk, by address, model and every setting that changes them.
    What a stage computes with it depends on what is served under the model's name, which no key of
    a stage can know: name a model's revision where the server has such names.
    """

    def __init__(self, config: OpenAICompatibleConfig) -> None:
        self.config = config
        self.context_length = config.context_length
        self._ctx: Context | None = None
        folder = default_cache() / "completions" if config.cache else None
        self._answers = Answers(folder)

    def load(self, ctx: Context) -> None:
        """Remembers where to log; whether anybody answers shows with the first question."""
        self._ctx = ctx

    @property
    def tokenizer(self) -> Any:
        """A served model has none.

        Raises:
            StageError: Always.
        """
        raise StageError(
            f"the model {self.config.model!r} at {self.config.url} is served: it answers in words, "
            "and has neither tokens nor embeddings here",
            hint="Use it with a component that prompts in words, such as chat_rec, or name a "
            "language model that runs here, such as smollm2_135m.",
        )

    def fits(self, conversation: Sequence[Message], *, max_new_tokens: int) -> bool:
        length = sum(len(message.content) for message in conversation)
        tokens = length // CHARACTERS + _OVERHEAD * len(conversation)
        return tokens + max_new_tokens <= self.context_length

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int
    ) -> Sequence[Completion]:
        """Answers each conversation, several at once, each different one asked once.

        Raises:
            StageError: If one is not answered, or has to be asked without a network.
        """
        questions = [self._question(given, max_new_tokens) for given in conversations]
        names = [json.dumps(question, sort_keys=True) for question in questions]
        different = dict(zip(names, questions, strict=True))
        found = {name: self._answers.find(question) for name, question in different.items()}
        missing = {name: different[name] for name, answer in found.items() if answer is None}
        if missing and self._ctx is not None and self._ctx.offline:
            raise StageError(
                f"{len(missing):,} of {len(different):,} questions to {self.config.url} have not "
                "been answered yet, and the network must not be touched",
                hint="Run once without --offline.",
            )
        known = {name: answer for name, answer in found.items() if answer is not None}
        known |= self._ask(missing)
        return [known[name] for name in names]

    def _question(self, conversation: Sequence[Message], max_new_tokens: int) -> dict[str, Any]:
        """Returns all that decides an answer: what is sent, and the address."""
        config = self.config
        return {
            "url": config.url,
            "model": config.model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation],
            "max_tokens": max_new_tokens,
            "temperature": config.temperature,
            "seed": config.seed,
        }

    def _ask(self, questions: Mapping[str, dict[str, Any]]) -> dict[str, Completion]:
        """Asks ``concurrency`` questions at a time; the first that fails ends it."""
        if not questions:
            return {}
        endpoint = Endpoint(self.config)
        with ThreadPoolExecutor(min(self.config.concurrency, len(questions))) as pool:
            waiting: dict[str, Future[Completion]] = {
                name: pool.submit(self._ask_one, endpoint, question)
                for name, question in questions.items()
            }
            try:
                return {name: future.result() for name, future in waiting.items()}
            except BaseException:
                endpoint.stopped.set()
                for future in waiting.values():
                    future.cancel()
                raise

    def _ask_one(self, endpoint: Endpoint, question: dict[str, Any]) -> Completion:
        sent = {name: value for name, value in question.items() if name != "url"}
        completion = endpoint.ask(sent)
        self._answers.keep(question, completion)
        return completion
