"""Whether two texts say the same: the rules that stand between a near vector and a merge.

quantities  numbers, units, dates, times in one form
lexicon     English word lists: function words, synonyms, opposites, stems
tokens      words, numbers, dates, identifiers found in a text
statement   a text as a list of terms with their part in the sentence
verdict     same, differs or contradicts, with the reasons in words
"""

from __future__ import annotations

from ryzanstein.memory.agreement.verdict import MAX_COMPARED, Agreement, Verdict, agree

__all__ = ["MAX_COMPARED", "Agreement", "Verdict", "agree"]
