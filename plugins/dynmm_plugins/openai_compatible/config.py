"""Settings of a served language model."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from dynmm_framework.config.blocks import Block


class OpenAICompatibleConfig(Block):
    """Settings of a served language model; keys to it come from the environment alone."""

    url: str = "http://127.0.0.1:8000/v1"
    """Address up to, not including, ``/chat/completions``; vLLM's own by default."""
    model: Annotated[str, Field(min_length=1)] = "default"
    """Name of the model at the endpoint."""
    key_variable: str = "DYNMM_LLM_KEY"
    """Environment variable that holds the endpoint's key; none is sent if it is not set."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Randomness of answers; 0 is greedy."""
    seed: int = 0
    """Seed that is sent along, for endpoints that heed it."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds to wait for one answer."""
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Further attempts after a timeout, a broken connection, an answer that is none, 429 or 5xx."""
    backoff: Annotated[float, Field(ge=0, le=60)] = 1.0
    """Seconds before the first of them; doubled each time, up to a minute, unless the endpoint
    says when to come back.
    """
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Questions that are under way at once."""
    context_length: Annotated[int, Field(ge=64)] = 4096
    """Tokens that the endpoint takes; prompts are kept below it by a rule of thumb of three
    characters a token.
    """
    cache: bool = True
    """Keep answers on disk and ask the same question once only. Off for a model that changes
    under its name.
    """

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s@/]+(/\S*)?", value):
            raise ValueError(
                f"{value!r} must begin with http:// or https:// and hold no user or password; a "
                "key comes from the environment variable that key_variable names"
            )
        return value.rstrip("/")

    @field_validator("key_variable")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            # The value is not repeated: someone may have written the key itself.
            raise ValueError(
                "key_variable takes the name of an environment variable in capitals, such as "
                "DYNMM_LLM_KEY, never a key"
            )
        return value
