"""$filter (DSP0266, 7.3.4): comparisons of properties with values, joined by and, or, not and parentheses."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fabricmgr.domain.errors import QueryInvalid

Json = dict[str, Any]
Scalar = str | float | bool | None
Predicate = Callable[[Json], bool]


@dataclass(frozen=True)
class Filter:
    """A test of pages. equals: comparisons that must hold for it to hold, so that a database may look for them.

    exact: it is nothing but these."""

    holds: Predicate
    equals: Mapping[str, Scalar] = field(default_factory=dict)
    exact: bool = False

    def __call__(self, page: Json) -> bool:
        return self.holds(page)


LONGEST = 2000  # characters
DEEPEST = 50  # parentheses and nots; an expression is read by recursion
_TOKEN = re.compile(
    r"\s*(?:(?P<open>\()|(?P<close>\))|(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)(?![\w/@.])|(?P<word>[A-Za-z_@#][\w@#./\-]*))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
}
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


_NOT = _Token("word", "not")


def parse(text: str) -> Filter:
    """The test that an expression stands for. Raises QueryInvalid (400) for what cannot be read."""
    reader = _Reader(text, _tokens(text))
    found = reader.either()
    if reader.rest():
        raise reader.refused()
    return found


def paths(text: str) -> set[str]:
    """The properties that an expression compares. Raises QueryInvalid (400)."""
    found = _tokens(text)
    return {token.text for token, after in pairwise(found) if token.kind == "word" and after.text in _COMPARE}


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    if len(text) > LONGEST:
        raise QueryInvalid("$filter", f"{text[:40]}...", f"at most {LONGEST} characters")
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryInvalid("$filter", text, f"property eq 'value', joined by and, or, not; {text[at:].strip()[:20]!r} cannot be read")
        found.append(_Token(match.lastgroup or "", match.group(match.lastgroup or 0)))
        at = match.end()
    if sum(token.kind == "open" or token == _NOT for token in found) > DEEPEST:
        raise QueryInvalid("$filter", f"{text[:40]}...", f"at most {DEEPEST} parentheses and nots")
    return found


class _Reader:
    """Reads tokens by recursion, the loosest binding first: or, and, not, comparison."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens

    def rest(self) -> bool:
        return bool(self._tokens)

    def refused(self) -> QueryInvalid:
        near = self._tokens[0].text if self._tokens else "the end"
        return QueryInvalid("$filter", self._text, f"property eq 'value', joined by and, or, not; {near!r} is not expected there")

    def either(self) -> Filter:
        found = self._both()
        while self._word("or"):
            found = Filter(_or(found.holds, self._both().holds))
        return found

    def _both(self) -> Filter:
        found = self._one()
        while self._word("and"):
            found = _both(found, self._one())
        return found

    def _one(self) -> Filter:
        if self._word("not"):
            return Filter(_not(self._one().holds))
        if self._tokens and self._tokens[0].kind == "open":
            self._tokens.pop(0)
            found = self.either()
            if not self._tokens or self._tokens[0].kind != "close":
                raise self.refused()
            self._tokens.pop(0)
            return found
        return self._comparison()

    def _comparison(self) -> Filter:
        if len(self._tokens) < 3 or self._tokens[0].kind != "word" or self._tokens[1].text not in _COMPARE:
            raise self.refused()
        path, word = self._tokens.pop(0).text, self._tokens.pop(0).text
        value = self._value()
        holds = _compared(tuple(path.split("/")), _COMPARE[word], value)
        return Filter(holds, {path: value}, True) if word == "eq" else Filter(holds)

    def _value(self) -> Scalar:
        token = self._tokens[0]
        if token.kind == "text":
            value: Scalar = token.text[1:-1].replace("''", "'")
        elif token.kind == "number":
            value = float(token.text)
        elif token.text in _WORDS:
            value = _WORDS[token.text]
        else:
            raise self.refused()
        self._tokens.pop(0)
        return value

    def _word(self, word: str) -> bool:
        if not self._tokens or self._tokens[0] != _Token("word", word):
            return False
        self._tokens.pop(0)
        return True


def _compared(path: tuple[str, ...], compare: Callable[[Any, Any], bool], wanted: Scalar) -> Predicate:
    def holds(page: Json) -> bool:
        value: Any = page
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or wanted is None or isinstance(value, dict | list):
            return compare(value, wanted) if compare in (_COMPARE["eq"], _COMPARE["ne"]) else False
        if isinstance(value, str) != isinstance(wanted, str):
            return compare is _COMPARE["ne"]
        return compare(value, wanted)

    return holds


def _or(a: Predicate, b: Predicate) -> Predicate:
    return lambda page: a(page) or b(page)


def _both(a: Filter, b: Filter) -> Filter:
    """Both must hold. Where both name one path, the other one's value is left to the page."""
    twice = bool(set(a.equals) & set(b.equals))
    return Filter(lambda page: a(page) and b(page), {**b.equals, **a.equals}, a.exact and b.exact and not twice)


def _not(a: Predicate) -> Predicate:
    return lambda page: not a(page)
