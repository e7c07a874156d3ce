"""Whether an answer is written in another language than its task, told by letters and small words.

A script is told by its letters; languages in Latin letters by their commonest words, and only
where there are many of one and next to none of the other. So a quoted name or line is no reason,
and a task that asks for another language is not looked at.
"""

from __future__ import annotations

import re

__all__ = ["foreign"]

_SCRIPTS = {
    "Chinese or Japanese": re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"),
    "Korean": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "Cyrillic": re.compile(r"[\u0400-\u04ff]"),
    "Greek": re.compile(r"[\u0370-\u03ff]"),
    "Arabic": re.compile(r"[\u0600-\u06ff]"),
    "Hebrew": re.compile(r"[\u0590-\u05ff]"),
    "Indic": re.compile(r"[\u0900-\u0dff]"),
    "Thai": re.compile(r"[\u0e00-\u0e7f]"),
    "Latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
}
_WORDS = {
    "English": "the of and to is in that it for was with are this be which have not you an",
    "German": "der die das und ist nicht ein eine zu den mit auf für von sich dem wird sind auch",
    "French": "le la les des et est une dans que qui pour pas sur avec du ce sont il elle aux",
    "Spanish": "el los las una que es por para con del se lo como más pero sus este son",
    "Italian": "il gli una che di per non con del della sono nel alla è dei più come questo",
    "Portuguese": "o os as uma que é não do da em para com dos das se mais como ao são",
    "Dutch": "de het een van en is dat niet op te voor met zijn aan die ook wordt er",
}
_TRANSLATES = re.compile(
    r"\b(translat\w+|überset\w+|traduc\w+|traduir\w*|traduis\w*|chinese|japanese|korean|russian|"
    r"greek|arabic|hebrew|hindi|thai|german|french|spanish|italian|portuguese|dutch|english|"
    r"deutsch|französisch|englisch|language|sprache|langue|idioma)\b",
    re.I,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.S)
_LEAST_LETTERS = 12
_SHARE = 0.4
_LEAST_WORDS = 5


def foreign(task: str, answer: str, quoted: str = "") -> str:
    """The language of an answer that should be in another one; "" where nothing speaks for it.

    Args:
        task: What was asked.
        answer: For the user.
        quoted: Texts that the answer may quote.
    """
    if _TRANSLATES.search(task):
        return ""
    said = _CODE.sub(" ", answer)
    script, asked = _script(said), _script(_CODE.sub(" ", task))
    if script and not _SCRIPTS[script].search(task + quoted):
        return script if script != "Latin" or asked else ""
    return _language(task, said) if {script, asked} <= {"", "Latin"} else ""


def _script(text: str) -> str:
    """The script that most letters of a text are of; "" where there are too few."""
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    # One such sign says as much as a few letters.
    counts["Chinese or Japanese"] *= 3
    name = max(counts, key=lambda one: counts[one])
    enough = counts[name] >= _LEAST_LETTERS and counts[name] >= _SHARE * sum(counts.values())
    return name if enough else ""


def _language(task: str, answer: str) -> str:
    asked, said = _counts(task), _counts(answer)
    best = max(said, key=lambda name: said[name])
    expected = max(asked, key=lambda name: asked[name])
    if asked[expected] < 2 or best == expected or asked[best] >= asked[expected]:
        return ""
    return best if said[best] >= _LEAST_WORDS and said[best] >= 4 * said[expected] else ""


def _counts(text: str) -> dict[str, int]:
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return {name: sum(word in known for word in words) for name, known in _SMALL.items()}


_SMALL = {name: frozenset(words.split()) for name, words in _WORDS.items()}
