"""Numbers, units, dates and times of a text in one form: "5 km" and "5,000 metres" are the same.

A key names what is measured and how much in the base unit: length:5000, data:1024, %:20, 8080.
Numerals may be written as words. "1.000" is one, as in English. A date written with strokes
(5/6/2023) stays as it is, because nobody can know which number is the month.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["MONTHS", "date_key", "number_key", "numeral_value", "rank_key", "time_key", "unit_of"]

MONTHS = {
    name: number
    for number, names in enumerate(
        "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|"
        "september sept sep|october oct|november nov|december dec".split("|"),
        start=1,
    )
    for name in names.split()
}
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_TEENS = "fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_NUMERALS: dict[str, int] = {
    **{word: value for value, word in enumerate(f"{_SMALL} {_TEENS}".split())},
    **{word: 10 * value for value, word in enumerate(_TENS.split(), start=2)},
    **_SCALES,
}
_RANKS = {word: rank for rank, word in enumerate(_ORDINALS.split(), start=1)}
_TIMES = {"once": 1, "twice": 2, "thrice": 3}
_UNITS: dict[str, tuple[str, Fraction]] = {}


def _define(dimension: str, table: str) -> None:
    for entry in table.split():
        names, factor = entry.split("=")
        for name in names.split(","):
            _UNITS[name] = (dimension, Fraction(factor))


_define(
    "length",
    "mm,millimetre,millimeter=1/1000 cm,centimetre,centimeter=1/100 m,metre,meter=1 "
    "km,kilometre,kilometer=1000 inch,inche=127/5000 ft,foot,feet=381/1250 mile=201168/125",
)
_define(
    "mass",
    "mg,milligram=1/1000 g,gram=1 kg,kilo,kilogram=1000 tonne=1000000 lb,pound=45359237/100000",
)
_define(
    "time",
    "ns,nanosecond=1/1000000000 µs,us,microsecond=1/1000000 ms,millisecond=1/1000 "
    "s,sec,second=1 min,minute=60 h,hr,hour=3600 day=86400 week=604800",
)
_define("months", "month=1 year,yr=12")
_define("bits", "bit=1")
_define(
    "bytes",
    "b,byte=1 kb,kilobyte=1000 mb,megabyte=1000000 gb,gigabyte=1000000000 "
    "tb,terabyte=1000000000000 kib=1024 mib=1048576 gib=1073741824 tib=1099511627776",
)
_define("%", "%,percent=1")
_define("°c", "°c,celsius=1")
_define("°f", "°f,fahrenheit=1")
_define("usd", "$,usd,dollar,buck=1")
_define("eur", "€,eur,euro=1")
_define("gbp", "£,gbp=1")
_define("yen", "¥,jpy,yen=1")
_define("volume", "ml,millilitre,milliliter=1/1000 l,litre,liter=1")
_define("speed", "km/h,kmh,kph=1 mph=201168/125000")
_define("frequency", "hz=1 khz=1000 mhz=1000000 ghz=1000000000")
_FACTORS = {"k": 1_000, "million": 10**6, "mn": 10**6, "billion": 10**9, "bn": 10**9}


def unit_of(word: str) -> tuple[str, Fraction] | None:
    """Returns dimension and factor of a unit's name or sign; None where it is none.

    "m" is metres and "M" million, "b" bytes: the case is looked at only there.
    """
    if word in ("M", "B"):
        return ("", Fraction(10**6 if word == "M" else 10**9))
    low = word.casefold().rstrip(".")
    if low in _FACTORS:
        return ("", Fraction(_FACTORS[low]))
    return _UNITS.get(low) or _UNITS.get(low.removesuffix("s"))


def number_key(digits: str, units: list[str]) -> str:
    """Returns the key of a number and the units that stand at it ("$", "5", "million").

    Args:
        digits: Digits with optional sign, thousands separators and fraction.
        units: What `unit_of` knows, in any order.
    """
    value = Fraction(digits.replace(",", "").replace("−", "-").replace("+", ""))
    dimensions = []
    for unit in units:
        dimension, factor = unit_of(unit) or ("", Fraction(1))
        value *= factor
        dimensions += [dimension] if dimension else []
    return _key(dimensions, value)


def numeral_value(words: list[str]) -> tuple[int, int] | None:
    """Reads a number written in words.

    Args:
        words: Casefolded words, of which the first ones may be a numeral.

    Returns:
        The value and how many words it took; None where the first is no numeral.
    """
    first = words[0] if words else ""
    if first in _TIMES:
        return _TIMES[first], 1
    total, part, used = 0, 0, 0
    for at, word in enumerate(words):
        if word == "and" and at and words[at - 1] in _SCALES and words[at + 1 : at + 2]:
            if words[at + 1] in _NUMERALS and part:
                used += 1  # "two hundred and five"
                continue
            break
        value = _NUMERALS.get(word)
        if value is None:
            break
        if value >= 1_000:
            total, part = total + max(part, 1) * value, 0
        elif word in _SCALES:
            part = max(part, 1) * value
        elif part % 100 and not (part % 10 == 0 and value < 10):
            break  # "two three" are two numbers
        else:
            part += value
        used += 1
    return (total + part, used) if used else None


def rank_key(word: str) -> str | None:
    """Returns the key of an ordinal, 3rd or third; None where it is none."""
    rank = _RANKS.get(word)
    if rank is None:
        found = re.fullmatch(r"(\d+)(?:st|nd|rd|th)", word)
        rank = int(found[1]) if found else None
    return None if rank is None else f"rank:{rank}"


def date_key(day: int | None, month: str, year: str | None) -> str:
    """Returns the key of a date of which the day or the year may be missing."""
    return f"date:{year or '*'}-{MONTHS[month.casefold().rstrip('.')]:02}-{day or '*'}"


def time_key(hours: int, minutes: int, seconds: int, half: str | None) -> str:
    """Returns the key of a time of day; `half` is "am", "pm" or None for 24 hours."""
    if half:
        hours = hours % 12 + (12 if half.casefold().startswith("p") else 0)
    return f"clock:{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")


def _key(dimensions: list[str], value: Fraction) -> str:
    number = str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"
    return ":".join([*sorted(dimensions), number])
