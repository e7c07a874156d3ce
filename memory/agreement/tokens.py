"""The tokens of a text: words, numbers, dates, times, identifiers, paths, quotations, marks.

One regular expression finds them all; its groups say of what sort a token is. Before that a text
is brought into one spelling: contractions in full, quotation marks of one kind, "no longer" as
"not".
"""

from __future__ import annotations

import re
import unicodedata

from ryzanstein.memory.agreement.quantities import MONTHS

__all__ = ["tokens"]

_MONTH = "|".join(sorted((name.capitalize() for name in MONTHS), key=len, reverse=True))
_DAY = r"\d{1,2}(?:st|nd|rd|th)?(?![\w:%]|[.,]\d)"
_HALF = r"[ap]\.?m\b\.?"
_TOKEN = re.compile(
    rf"""
    "(?P<quoted>[^"\n]{{1,300}})" | `(?P<code>[^`\n]{{1,300}})`
  | (?P<url>https?://[^\s<>"]+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+)
  | (?P<iso>\d{{4}}-\d{{2}}-\d{{2}})(?=$|[^\w-]|T)
  | (?P<stroke>\d{{1,2}}/\d{{1,2}}/\d{{2,4}})\b
  | (?P<day>{_DAY})\s+(?:of\s+)?(?P<month>{_MONTH})\b\.?(?:,?\s+(?P<year>\d{{4}})\b)?
  | (?P<month2>{_MONTH})\b\.?\s+(?P<day2>{_DAY})(?:,?\s+(?P<year2>\d{{4}})\b)?
  | (?P<month3>{_MONTH})\b\.?,?\s+(?P<year3>\d{{4}})\b
  | (?P<clock>\d{{1,2}}:\d{{2}}(?::\d{{2}})?)(?:\s*(?P<half>{_HALF}))?
  | (?P<hour>\d{{1,2}})\s*(?P<half2>{_HALF})
  | (?P<path>(?:~|\.{{1,2}})?(?:/[\w.@+-]+)+/? | [A-Za-z]:\\[^\s"]+)
  | (?P<version>\bv\d+(?:\.\d+)*[\w.+-]*|\d+(?:\.\d+){{2,}}[\w.+-]*)
  | (?:(?P<sign>[$€£¥])\s?)?(?P<number>(?:(?<![\w.])[-−])?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?)
      (?P<attached>%|°?[^\W\d_]+(?:/[^\W\d_]+|\w*))?
  | (?P<genitive>'s)\b
  | (?P<word>[^\W\d_]\w*(?:(?:[-.+#/&@_:]+|'(?!s\b))\w+)*[+#]*)
  | (?P<flag>(?<!\w)--?\w[\w-]* | [#@_]\w+)
  | (?P<mark>[?!.,;:])
  | (?P<symbol>[^\w\s'"`()\[\]{{}}/\\-])
    """,
    re.VERBOSE,
)
_SHORT = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\bwon't\b", "will not"),
        (r"\bcan't\b", "can not"),
        (r"\b(\w+)n't\b", r"\1 not"),
        (r"\b(it|that|he|she|there|what|who|here|where|how|let)'s\b", r"\1 is"),
        (r"(\w)'re\b", r"\1 are"),
        (r"(\w)'ve\b", r"\1 have"),
        (r"(\w)'ll\b", r"\1 will"),
        (r"(\w)'m\b", r"\1 am"),
        (r"(\w)'d\b", r"\1 would"),
        (r"\b(not\b[^.?!]*?) any ?(?:more|longer)\b", r"\1"),
        (r"\bno (?:longer|more)\b", "not"),
        (r"\bno one\b", "nobody"),
        (r"\b(?:stop|quit|ceas)(?:s|es|ed|ped)? (?!during\b|noth|\w*thing\b)(?=\w+ing\b)", "not "),
    )
)
_QUOTES = str.maketrans("‘’“”„«»–", '\'\'"""""-')


def tokens(text: str) -> list[re.Match[str]]:
    """Returns the tokens of a text, in order."""
    plain = unicodedata.normalize("NFKC", text.translate(_QUOTES))
    for pattern, replacement in _SHORT:
        plain = pattern.sub(replacement, plain)
    return list(_TOKEN.finditer(plain))
