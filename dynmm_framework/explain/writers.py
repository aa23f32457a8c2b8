"""Who writes the sentences: templates, or a frozen language model that is held to the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from dynmm_framework.config.explain import FORMS, FactKind, Form, Instructions, Wording
from dynmm_framework.explain.cases import Case
from dynmm_framework.explain.claims import ITEM, Checker, Claim, ids_of, unsupported
from dynmm_framework.explain.lexicon import QUOTED
from dynmm_framework.explain.rationale import Phrasebook, Rationale, Reason
from dynmm_framework.language.conversation import ChatModel, Message
from dynmm_framework.language.tokens import clean, sentence_end

if TYPE_CHECKING:
    from torch import Tensor

NOT_WRITTEN = "wrote nothing"
UNFINISHED = "did not come to an end"
OPEN_QUOTATION = "leaves a quotation open"
SAID_TWICE = "names the same thing twice"
NO_EVIDENCE = "there is no evidence"
NOTHING_SAID = "gives no reason that the evidence holds"


class Writer(Protocol):
    """Writes the sentences of recommendations.

    Attributes:
        name: As it is stored with every sentence.
    """

    name: str

    def write(self, cases: Sequence[Case]) -> list[Rationale]:
        """Writes one sentence for each case; every claim in it is supported."""
        ...


class TemplateWriter:
    """Fills templates, and has the independent checker read every sentence.

    A reason whose words the checker would not accept is left out; that happens where a wording
    itself names or praises something.

    Args:
        phrasebook: Puts evidence into words.
        checker: Reads what was written.
        forms: Forms that may be used.
        most: Most reasons in a sentence.
    """

    name = "template"

    def __init__(
        self,
        phrasebook: Phrasebook,
        checker: Checker,
        *,
        forms: Sequence[Form] = FORMS,
        most: int = 2,
    ) -> None:
        self.phrasebook, self.checker = phrasebook, checker
        self.forms, self.most = tuple(forms), most

    def write(self, cases: Sequence[Case]) -> list[Rationale]:
        return [self.one(case) for case in cases]

    def one(self, case: Case) -> Rationale:
        """Writes the sentence of one case."""
        written = self.phrasebook.rationale(case, forms=self.forms, most=self.most)
        wrong = unsupported(self.checker.check(written.sentence, case))
        if not wrong:
            return written
        for form in self._turns(case):
            again = self.phrasebook.rationale(replace(case, rank=1), forms=(form,), most=1)
            if not unsupported(self.checker.check(again.sentence, case)):
                return self._gave_way(again, written, wrong[0].reason, tuple(wrong))
        nothing = Rationale(self.phrasebook.wording.nothing, "none", ())
        return self._gave_way(nothing, written, wrong[0].reason, tuple(wrong))

    def _turns(self, case: Case) -> list[Form]:
        turn = (case.rank - 1) % len(self.forms)
        return [*self.forms[turn:], *self.forms[:turn]]

    def _gave_way(
        self, kept: Rationale, draft: Rationale, reason: str, found: tuple[Claim, ...]
    ) -> Rationale:
        return replace(kept, fallback=reason, draft=draft.sentence, found=found)


class LanguageModelWriter:
    """A frozen language model puts the evidence's words into a sentence of its own.

    It reads the title and the reasons as the templates word them, writes greedily and is cut after
    its first sentence. What it writes is checked claim by claim; where one is not supported, or
    none of the evidence is said, it is asked again with one reason alone, as small models confuse
    several. Where none of its sentences holds, the template's is shown; what was wrong with the
    first is kept either way. Texts of items are data: cleaned of whatever could open or close a
    message, and, whatever they ask for, the checker reads what came of it.

    Args:
        chat: The language model, asked in words.
        template: Writes where the language model says what it must not.
        instructions: What it is told.
        max_new_tokens: Most tokens of a sentence.
        batch: Cases that are asked about at once.
        attempts: Most times that it is asked about a case.
        soft: Gives soft tokens of the evidence of cases, ``(n, E, hidden_size)``, which the model
            reads behind the facts; ``None`` for words alone.
    """

    name = "language_model"

    def __init__(
        self,
        chat: ChatModel,
        template: TemplateWriter,
        *,
        instructions: Instructions | None = None,
        max_new_tokens: int = 64,
        batch: int = 16,
        attempts: int = 1,
        soft: Callable[[Sequence[Case]], Tensor] | None = None,
    ) -> None:
        self.chat, self.template = chat, template
        self.instructions = instructions or Instructions()
        self.max_new_tokens, self.batch, self.attempts = max_new_tokens, batch, attempts
        self.soft = soft

    def write(self, cases: Sequence[Case]) -> list[Rationale]:
        plain = self.template.write(cases)
        out = [
            replace(rationale, fallback=rationale.fallback or NO_EVIDENCE) for rationale in plain
        ]
        open_ = [row for row, rationale in enumerate(plain) if rationale.form != "none"]
        choices = {row: self._choices(cases[row]) for row in open_}
        for attempt in range(self.attempts):
            open_ = [row for row in open_ if attempt < len(choices[row])]
            given = {row: choices[row][attempt] for row in open_}
            for row, text in self._written(cases, given):
                found = self._judged(text, cases[row], plain[row])
                if attempt == 0:
                    out[row] = found
                elif not found.fallback:
                    out[row] = replace(found, draft=out[row].draft, found=out[row].found)
            open_ = [row for row in open_ if out[row].fallback]
        return out

    def _choices(self, case: Case) -> list[list[Reason]]:
        """Returns the reasons of each attempt: the best together, then one at a time."""
        forms = self.template.forms
        turn = (case.rank - 1) % len(forms)
        every = self.template.phrasebook.all_reasons(case, [*forms[turn:], *forms[:turn]])
        together = every[: self.template.most]
        return [together, *([reason] for reason in every if [reason] != together)]

    def _written(
        self, cases: Sequence[Case], given: Mapping[int, list[Reason]]
    ) -> Iterator[tuple[int, str]]:
        """Yields what the model writes about each of these cases with these reasons."""
        rows = list(given)
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            answers = self._answers([cases[row] for row in part], [given[row] for row in part])
            yield from zip(part, answers, strict=True)

    def question(self, case: Case, reasons: Sequence[Reason]) -> tuple[Message, ...]:
        """Returns what is asked about a case, with fewer facts if it would not fit."""
        words = self.instructions
        while True:
            facts = [f"- {reason.text}" for reason in reasons]
            said = {identifier for reason in reasons for identifier in reason.evidence}
            asked = (
                Message("system", words.system),
                *self._shown({c.fact.kind for c in case.evidence if c.id in said}),
                Message("user", self._asked(clean(case.title), facts)),
            )
            if len(reasons) <= 1 or self.chat.fits(asked, max_new_tokens=self.max_new_tokens):
                return asked
            reasons = reasons[:-1]

    def _asked(self, title: str, facts: Sequence[str]) -> str:
        words = self.instructions
        return "\n".join([f"{words.item} “{title}”", words.facts, *facts, words.task])

    def _shown(self, kinds: set[FactKind]) -> Iterator[Message]:
        """Yields the examples of these kinds of facts, as the model would say others again."""
        fitting = [e for e in self.instructions.examples if kinds.issuperset(e.kinds)]
        for example in sorted(fitting, key=lambda e: len(set(e.kinds))):
            facts = [f"- {fact}" for fact in example.facts]
            yield Message("user", self._asked(example.title, facts))
            yield Message("assistant", example.sentence)

    def _answers(self, cases: Sequence[Case], given: Sequence[Sequence[Reason]]) -> list[str]:
        from dynmm_framework.language.chat import LocalChat

        pairs = list(zip(cases, given, strict=True))
        questions = [self.question(case, reasons) for case, reasons in pairs]
        if isinstance(self.chat, LocalChat):
            from dynmm_framework.explain.answers import complete_from

            return complete_from(
                self.chat,
                questions,
                [self._opening(case, reasons) for case, reasons in pairs],
                max_new_tokens=self.max_new_tokens,
                soft=None if self.soft is None else self.soft(cases),
            )
        answers = self.chat.complete(questions, max_new_tokens=self.max_new_tokens)
        return [answer.text for answer in answers]

    def _opening(self, case: Case, reasons: Sequence[Reason]) -> str:
        words = self.instructions
        begun = words.opening.replace("{title}", clean(case.title))
        return " ".join([begun, *reasons[0].text.split()[: words.opening_words]])

    def _judged(self, text: str, case: Case, plain: Rationale) -> Rationale:
        names = [case.title, *(self.template.phrasebook.titles.of(c.fact) for c in case.evidence)]
        draft, problem = first_sentence(text, names)
        if not problem and (draft.count("“") != draft.count("”") or draft.count('"') % 2):
            problem = OPEN_QUOTATION
        claims = self.template.checker.check(draft, case) if draft else []
        wrong = unsupported(claims)
        if not problem and wrong:
            problem = wrong[0].reason
        if not problem and not ids_of(claims):
            problem = NOTHING_SAID
        if not problem and _says_twice(claims):
            problem = SAID_TWICE
        if problem:
            return replace(plain, fallback=problem, draft=draft, found=tuple(wrong))
        form = form_of(ids_of(claims), self.template.phrasebook.all_reasons(case)) or plain.form
        return Rationale(draft, form, tuple(claims), writer=self.name)


def first_sentence(text: str, names: Iterable[str] = ()) -> tuple[str, str]:
    """Returns the first sentence of what a language model wrote, and what is wrong with it.

    Args:
        text: What it wrote.
        names: Titles; a stop in one of them ends no sentence, nor does one in a quotation.
    """
    lines = text.strip().splitlines()
    line = clean(lines[0]) if lines else ""
    if not line:
        return "", NOT_WRITTEN
    masked = line
    for name in sorted(filter(None, names), key=len, reverse=True):
        masked = masked.replace(name, "x" * len(name))
    masked = QUOTED.sub(lambda match: "x" * len(match.group()), masked)
    end = sentence_end(f"{masked} ")
    return (line, UNFINISHED) if end is None else (line[:end], "")


def _says_twice(claims: Iterable[Claim]) -> bool:
    named = [c.evidence for c in claims if c.kind == "title" and c.evidence != (ITEM,)]
    return len(set(named)) < len(named)


def form_of(evidence: Iterable[str], reasons: Iterable[Reason]) -> Form | None:
    """Returns the form of the first reason that shares evidence with a sentence."""
    cited = set(evidence)
    return next((reason.form for reason in reasons if cited & set(reason.evidence)), None)


def words_allowed(wording: Wording) -> list[str]:
    """Returns the templates' own words, without their placeholders."""
    import string

    parts: list[str] = []
    for value in wording.model_dump().values():
        if isinstance(value, str):
            for literal, _, choice, _ in string.Formatter().parse(value):
                parts += [literal, choice or ""]
    return parts


__all__ = [
    "LanguageModelWriter",
    "TemplateWriter",
    "Writer",
    "first_sentence",
    "words_allowed",
]
