"""Texts that may be quoted: sentences without personal data, and without orders to a model.

What people and shops write is data. It may name people who never asked to be quoted, and it may be
written to be read by a language model; neither may reach a sentence that is shown. Both tests are
heuristics of English text, and err on the side of leaving a sentence out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dynmm_framework.protocols import State

FEWEST, MOST = 20, 300
"""Characters of a sentence that is worth a quotation, and short enough for one."""
GAP = "…"
"""Stands for what was taken out of a text."""

_NAME = r"[A-Z][\w'’.-]*"
_NAMES = rf"{_NAME}(?:[ \t]+{_NAME}){{0,2}}"
_CONTACTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:https?://|www\.)\S+|\b[\w-]+\.(?:com|net|org|co\.uk|de|fr|io)\b\S*",
        r"[\w.+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)+",
        r"(?<![\w@])@\w{2,}",
        # Telephone numbers: with a country's code, in groups that end in four digits, or of ten.
        r"(?<![\w.])\+\d[\d\s().-]{7,}\d",
        r"(?<![\w.-])(?:\(?\d{3}\)?[\s.-]{0,2})?\d{3}[\s.-]\d{4}(?![\w-])|(?<![\w.-])\d{10}(?![\w-])",
    )
)
_CLOSING = "yours|sincerely|regards|cheers|signed|thanks|thank you|love"
_FAMILY = (
    "husband|wife|son|daughter|brother|sister|mother|father|mom|mum|dad|friend|boyfriend|girlfriend|"
    "partner|cousin|aunt|uncle|nephew|niece|grandson|granddaughter|boss|neighbou?r"
)
_PEOPLE = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"(?i:\b(?:my name is|my name['’]s|i am called))[ \t]+\w+(?:[ \t]+[A-Z][\w'’.-]*){0,2}",
        rf"(?i:\b(?:signed|posted|written|review(?:ed)?)[ \t]+by)[ \t]+{_NAMES}",
        rf"(?i:\b(?:reviewer|username|user name|screen name|nickname))[ \t]+{_NAMES}",
        rf"(?i:\b(?:my|our) (?:late )?(?:{_FAMILY})),?[ \t]+{_NAMES}",
        rf"^(?i:(?:this is|it['’]?s) )?{_NAME}(?:[ \t]+{_NAME})?[ \t]+(?i:here)\b(?=\s*[,.!;:-])",
        rf"(?i:\b(?:{_CLOSING})),\s*{_NAMES}[ \t]*$",
        # A name with figures at its end is one that someone goes by.
        r"\b[A-Za-z]+_?[A-Za-z]*(?:19|20)\d\d\b|\b[A-Za-z]+_[A-Za-z]*\d+\b",
        rf"\bI(?:['’]m| am)[ \t]+(?!I\b){_NAMES}(?=[ \t]+(?i:from|and|in)\b|[.,!]|$)",
        # A signature: a dash and a name where the text or the line ends.
        rf"(?:^|(?<=[\s.!?,]))[-–—~][-–—]?[ \t]*{_NAMES}[ \t]*$",
        rf"(?i:\b(?:mr|mrs|ms|dr|prof))\.?[ \t]+{_NAMES}",
    )
)
_ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instruction|prompt|rule|"
        r"direction|context|guideline|command|message|above|previous|prior|earlier|everything)",
        r"\b(?:previous|prior|above|earlier|following|new|system) (?:instruction|prompt)s?\b",
        r"\byou are (?:now |an? )*(?:\w+ )?(?:ai|assistant|chatbot|language model|llm|gpt|"
        r"recommender)\b",
        r"\b(?:as|to|dear|attention|hey|note to) (?:an? |the |all |any )*(?:ai|language model|llm|"
        r"chatbot|assistant|recommender)s?\b",
        r"\b(?:pretend|act|respond|reply|answer|behave)\b.{0,20}\b(?:as if|as an?|only with|with "
        r"only|exactly)\b",
        r"\b(?:always|must|please|only|now|to)\b.{0,15}\b(?:recommend|praise|promote|rank|rate|"
        r"suggest|favou?r)\b.{0,25}\b(?:this|it|first|highest|top|above|item|product)\b",
        r"^\W*(?:recommend|praise|promote|rank|rate|suggest|output|print|say|repeat|write)\b.{0,25}"
        r"\b(?:this|it|item|product|following|that)\b",
        r"\b(?:do not|don['’]t|never) (?:mention|reveal|recommend|tell|say|rank|follow)\b",
        r"<\s*/?\s*(?:system|user|assistant|s|inst|im_start|im_end|endoftext)\b|\[/?INST\]|"
        r"<\||\|>|<<|>>|```",
        r"^\W*(?:system|assistant|user|human|instruction|response|answer)s?\s*:",
        r"^\W*(?:ai|llm|gpt|chatbot|bot)s?\s*[,:-]\s*(?:tell|say|rank|praise|recommend|please|you|"
        r"write|describe|answer|show|put)\b",
        r"\b(?:you must|should be|must be|please) (?:tell|told)\b|"
        r"\btell (?:the|your|every|all) (?:\w+ )?(?:user|customer|buyer|viewer|reader|person)s?\b",
        r"^\W*(?:please )?(?:describe|present|summari[sz]e|introduce) (?:this|it) as\b",
        r"^\W*(?:when|while|if) (?:summari[sz]ing|explaining|recommending|describing)\b",
        r"^\W*(?:answer|respond|reply) (?:with|by|only)\b",
        r"\b(?:jailbreak|prompt injection|system prompt|developer mode)\b",
    )
)
_SHORT = (
    "Mr",
    "Mrs",
    "Ms",
    "Dr",
    "Prof",
    "St",
    "Jr",
    "Sr",
    "Bros",
    "Inc",
    "Co",
    "Corp",
    "Ltd",
    "vs",
)
_ENDS = re.compile(
    r"(?<=[.!?…])"
    + "".join(rf"(?<!\b{word}\.)" for word in _SHORT)
    + r"(?<!\s[A-Z]\.)(?<!\.[A-Z]\.)[\"'”’)\]]?\s+(?=[\"'“‘(\[]?[A-Z0-9]|[-–—~])"
    r"|\s*[\r\n]+\s*|\s+[•·]\s+"
)
"""Where sentences end; not after abbreviations that names hold, nor after initials."""


def scrub(text: str, *, people: bool = True) -> str:
    """Returns a text without what tells how to reach someone, and who wrote it.

    Taken out, with :data:`GAP` in its place: addresses of the web and of e-mail, @names and
    telephone numbers.

    Args:
        text: Any text.
        people: Take out introductions ("my name is Ann"), signatures ("- Ann B.") and titles with
            names ("Dr. Smith") too, as is right for what people wrote of an item. A name within a
            sentence cannot be told from that of a product and stays.
    """
    for pattern in (*_CONTACTS, *(_PEOPLE if people else ())):
        text = pattern.sub(GAP, text)
    return text


def gives_orders(text: str) -> bool:
    """Tells whether a text reads like an instruction to a model rather than about an item.

    Known forms: to ignore, disregard or forget instructions; to be or pretend to be someone; to
    recommend, praise or rank this; to mention nothing; markers of roles and of chat templates.
    """
    return any(pattern.search(text) for pattern in _ORDERS)


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, as they are, in order."""
    return [found for part in _ENDS.split(text) if (found := part.strip())]


def quotable(
    text: str | None, *, people: bool = True, fewest: int = FEWEST, most: int = MOST
) -> list[str]:
    """Returns the sentences that may be quoted: verbatim parts of the text, never edited.

    A sentence from which :func:`scrub` would take something, or which :func:`gives_orders`, is left
    out as a whole; so is one that says nothing in words.

    Args:
        text: What an item's description or a review says.
        people: Whether a person wrote it, whose name it may hold; see :func:`scrub`.
        fewest: Characters that a sentence must have.
        most: Characters that it may have.
    """
    return [
        found
        for found in sentences(text or "")
        if fewest <= len(found) <= most
        and sum(map(str.isalpha, found)) * 2 >= len(found)
        and scrub(found, people=people) == found
        and not gives_orders(found)
    ]


def pack_texts(name: str, texts: Sequence[str]) -> State:
    """Returns texts as arrays, to be kept among those that a component learned."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    return {
        f"{name}.bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}.ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
    }


def unpack_texts(name: str, state: State) -> list[str]:
    """Restores what :func:`pack_texts` returned."""
    return [packed_text(name, state, place) for place in range(len(state[f"{name}.ends"]))]


def packed_text(name: str, state: State, place: int) -> str:
    """Returns one of the texts, the others left packed."""
    ends = state[f"{name}.ends"]
    text = state[f"{name}.bytes"][int(ends[place - 1]) if place else 0 : int(ends[place])]
    return bytes(np.asarray(text)).decode()
