"""Words by which a sentence is read: numbers, units, praise, what people are said to have done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_COUNTED = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty"
)
NUMBER_WORDS: Mapping[str, float] = {
    **{word: float(value) for value, word in enumerate(_COUNTED.split(), start=2)},
    "thirty": 30.0,
    "forty": 40.0,
    "fifty": 50.0,
    "sixty": 60.0,
    "seventy": 70.0,
    "eighty": 80.0,
    "ninety": 90.0,
    "dozen": 12.0,
    "dozens": float("inf"),
    "hundred": 100.0,
    "hundreds": float("inf"),
    "thousand": 1000.0,
    "thousands": float("inf"),
    "million": 1e6,
    "millions": float("inf"),
    "billions": float("inf"),
    "billion": 1e9,
    "twice": 2.0,
    "half": 0.5,
}
"""Numbers in words; ``one`` is left out, which is more often a pronoun."""

_NOT_THESE = (
    "friends critics fans members men women votes ratings reviews copies sales dollars euros pounds"
    " countries cities seasons episodes points"
)
_TIMES = "day days week weeks month months year years hour hours minutes"
UNITS: Mapping[str, tuple[str, ...]] = {
    "day": ("days",),
    "days": ("days",),
    "time": ("count",),
    "times": ("count",),
    "people": ("users", "count"),
    "person": ("users", "count"),
    "users": ("users",),
    "viewers": ("users",),
    "customers": ("users",),
    "buyers": ("users",),
    "readers": ("users",),
    "others": ("users",),
    "percent": ("share",),
    "minutes": ("minutes",),
    "hour": ("hours",),
    "hours": ("hours",),
    "week": ("weeks",),
    "weeks": ("weeks",),
    "month": ("months",),
    "months": ("months",),
    "year": ("years",),
    "years": ("years",),
    "stars": ("stars", "rating"),
    **{word: (word,) for word in _NOT_THESE.split()},
}
"""Word after a number to the numbers of records that it may be."""

PEOPLE = frozenset(word for word, names in UNITS.items() if "users" in names)
"""Words for those who chose something."""
TIMES = frozenset(_TIMES.split())
"""Words for how long something is."""

SHARE = re.compile(
    r"\b(?:a|one|two|three|four)[- ](?:third|quarter|fifth|tenth)s?\b|\bmajority\b|"
    r"\b(?:most|(?:almost |nearly )?all)(?: of)?(?: the| our| other)*"
    r" (?:people|users|viewers|customers|buyers|readers|others)\b",
    re.IGNORECASE,
)
"""Shares in words, which no record holds."""

LIKE_YOU = re.compile(r"\blike you(?:rs)?\b|\byour tastes?\b|\bsimilar tastes?\b", re.IGNORECASE)
"""People who are like the one who is spoken to."""

OFTEN = re.compile(
    r"\b(?:often|always|usually|mostly|mainly|frequently|regularly|constantly)\b", re.IGNORECASE
)
"""Says that something is chosen often."""

HIDDEN = re.compile("[A-Za-z][\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+[A-Za-z]")
"""Letters with something between them that is not seen."""

UNTOLD = frozenset({"items", "epsilon"})
"""Numbers of records that say nothing of people: no sentence is given them, and a number that only
happens to equal one is not borne out by it."""

PRAISE = re.compile(
    r"\b(?:best(?:[- ]selling)?|greatest|finest|worst|award[- ]winning|awards?|oscars?|"
    r"academy awards?|emmys?|grammys?|golden globes?|acclaimed|critically|masterpieces?|"
    r"masterful|must[- ](?:see|watch|have|buy|read|try)|unmissable|perfect(?:ly)?|amazing|awesome|"
    r"incredible|stunning|brilliant|fantastic|excellent|superb|outstanding|wonderful|exceptional|"
    r"unforgettable|legendary|iconic|timeless|beloved|thrilling|hilarious|captivating|compelling|"
    r"gripping|magnificent|terrific|marvell?ous|phenomenal|superior|extraordinary|sensational|"
    r"fabulous|flawless|unbeatable|unbelievable|mind[- ]blowing|glorious|splendid|exquisite|"
    r"sublime|spellbinding|riveting|mesmeri[sz]ing|charming|adored?|"
    r"worth (?:watching|seeing|reading|buying|your)|"
    r"good(?! (?:match|fit|choice|reason|idea)s?\b)|"
    r"you(?:['’]ll| will)(?: \w+)? (?:love|adore|enjoy|like)|"
    r"breathtaking|delightful|heartwarming|spectacular|unparalleled|unrivall?ed|"
    r"world[- ]class|first[- ]class|top[- ](?:rated|notch|quality)|highly[- ](?:rated|recommended|"
    r"acclaimed|praised)|well[- ](?:made|crafted|acted|reviewed|received|known|written)|renowned|"
    r"famous|famed|celebrated|favou?rites?|loved by|everyone|guaranteed?|definitely|certainly|"
    r"undoubtedly|great|classic|classics|quality|fascinating|enjoyable|entertaining|"
    r"engaging|impressive|remarkable|powerful|beautiful(?:ly)?|ever made|of all time|number one|"
    r"no\. ?1|five[- ]star|hit|blockbusters?|bestsellers?|popular|trending|rave)\b|#1\b|★",
    re.IGNORECASE,
)
"""Words that say how good something is; no record of evidence says that."""

NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|merely)\b)|no|none|never|nobody|no[- ]one|nothing|nowhere|neither|"
    r"nor|cannot|without|unlike|hardly|barely|scarcely|rarely|seldom|except|instead of|rather than|"
    r"(?:do|does|did|is|are|was|were|have|has|had|wo|ca|could|would|should)nt|\w+n['’]t|"
    r"dislik(?:e[sd]?|ing)|hat(?:e[sd]?|ing)|avoid(?:s|ed|ing)?|lack(?:s|ed|ing)?|"
    r"refus(?:e[sd]?|ing)|reject(?:s|ed|ing)?|fail(?:s|ed|ing)?|stopped|far from)\b",
    re.IGNORECASE,
)
"""Words that turn what a sentence says into its opposite; records say what is, not what is not."""

LINK = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\w+|\b[\w-]+\.(?:com|net|org|io)\b", re.I)

QUOTED = re.compile(
    r"“([^“”]+)”|\"([^\"]+)\"|«([^«»]+)»|(?<!\w)‘([^‘’]+)’(?!\w)|(?<!\w)'([^']+)'(?!\w)"
)
"""A quotation, by the marks around it."""

_NO_MODAL = r"(?! (?:may|might|could|will|would|should|can|must|want))"
_VERBS = (
    r"(?:watched|seen|saw|viewed|liked|like|loved|love|enjoyed|enjoy|chose|chosen|choose|picked|"
    r"bought|purchased|ordered|read|played|heard|rated|tried|visited|had|own|finished|"
    r"watch|see|view|pick|buy|purchase|order|play|try|visit|prefer)"
)


class Acts(NamedTuple):
    """Words that say what someone has done.

    Attributes:
        after: Stands before what was chosen: ``you watched``, ``your love of``.
        before: Stands after it: ``which you watched``.
    """

    after: re.Pattern[str]
    before: re.Pattern[str]


ACTS = Acts(
    after=re.compile(
        rf"(?<!which )(?<!that )\byou(?:['’]ve| have| had)?{_NO_MODAL}(?: \w+){{0,2}}? {_VERBS}\b"
        r"|\byour (?:recent |past |previous |own )?"
        r"(?:choices?|watching|viewing|purchases?|history|love|liking|interest|enjoyment)"
        r" (?:of|in|for|with)\b"
        r"|\b(?:you(?:['’]re| are) |as )an? (?:\w+ )?(?:fan|lover|admirer|owner|reader|viewer) of\b"
        r"|\b(?:having|after) (?:watched|seen|liked|loved|enjoyed|chosen|bought|read|played|"
        r"watching|seeing|liking|loving|enjoying|choosing|buying|reading|playing)\b",
        re.IGNORECASE,
    ),
    before=re.compile(
        r"\b(?:which|that|both of which|all of which) you(?:['’]ve| have| had)?"
        rf"(?: \w+){{0,2}}? {_VERBS}\b"
        r"|\b(?:from|in) your (?:history|watch(?:ed)? list|list)\b",
        re.IGNORECASE,
    ),
)

ITSELF = re.compile(r"\s+(?:it|this|this one|these|that)\b(?!\s+\w+s\b)", re.IGNORECASE)
"""The recommended item, behind what someone is said to have done."""

LIKENESS = re.compile(
    r"\b(?:close|similar|akin|comparable|related) to\b|\b(?:resembles|reminiscent of)\b",
    re.IGNORECASE,
)
"""Says that one thing is like another."""

_ORDINARY = """
a about after all also although an and another any are as at based because before both but
by each few for from given has have he her here his how however i if in is it its just like
many may more most much my no not of often on one only or other our people recommended s se
she similar since so some such t than that the their them then there these they this those
though to under up us users very was we what when where which while who why will with would
you your yours recommend recommends suggest suggests suggested recommendation description
review reviews says said fact facts title item items film films movie movies viewers
audience it's you've we've likewise additionally moreover furthermore therefore thus finally
first second last next now today do does did can could should must well too again yes
"""
ORDINARY = frozenset(_ORDINARY.split())
"""Words that a capital letter does not make a name, as at the beginning of a sentence."""
