"""Units of measurement, exact: every factor to the SI base units is a fraction.

    km/h, m/s^2, kg*m^2, kWh, GiB/s     products, quotients and powers of units, SI prefixes
    degC, degF, K                       temperatures, by themselves

Factors are those of the SI brochure (9th edition) and NIST SP 811; information is counted in bits,
with decimal and binary prefixes (IEC 80000-13).
"""

from __future__ import annotations

import re
from fractions import Fraction

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean

__all__ = ["convert"]

_Dimension = tuple[
    int, ...
]  # powers of metre, kilogram, second, ampere, kelvin, mole, candela, bit
_BASE = "m kg s A K mol cd bit".split()
_MOST_PARTS = 20
_LARGEST_POWER = 12

_PREFIXES = {
    "Q": 30, "R": 27, "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2,
    "da": 1, "d": -1, "c": -2, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15,
    "a": -18, "z": -21, "y": -24, "r": -27, "q": -30,
}  # fmt: skip
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
# Symbol, factor and the units it is made of; those before the line take SI prefixes.
_PREFIXED = """
m 1 m|g 1/1000 kg|s 1 s|A 1 A|K 1 K|mol 1 mol|cd 1 cd|bit 1 bit|B 8 bit|Hz 1 s^-1|N 1 kg*m*s^-2
Pa 1 kg*m^-1*s^-2|J 1 kg*m^2*s^-2|W 1 kg*m^2*s^-3|C 1 A*s|V 1 kg*m^2*s^-3*A^-1|Wh 3600 kg*m^2*s^-2
F 1 kg^-1*m^-2*s^4*A^2|Ohm 1 kg*m^2*s^-3*A^-2|S 1 kg^-1*m^-2*s^3*A^2|T 1 kg*s^-2*A^-1
Wb 1 kg*m^2*s^-2*A^-1|H 1 kg*m^2*s^-2*A^-2|lm 1 cd|lx 1 cd*m^-2|Bq 1 s^-1|Gy 1 m^2*s^-2
Sv 1 m^2*s^-2|L 1/1000 m^3|l 1/1000 m^3|bar 100000 kg*m^-1*s^-2|t 1000 kg
eV 1602176634/10000000000000000000000000000 kg*m^2*s^-2|cal 4184/1000 kg*m^2*s^-2
"""
_PLAIN = """
min 60 s|h 3600 s|day 86400 s|week 604800 s|year 31557600 s|inch 254/10000 m|ft 3048/10000 m
yd 9144/10000 m|mi 1609344/1000 m|nmi 1852 m|au 149597870700 m|ly 9460730472580800 m
pc 30856775814913673 m
lb 45359237/100000000 kg|oz 45359237/1600000000 kg|st 45359237*14/100000000 kg|ha 10000 m^2
acre 40468564224/10000000 m^2|gal 3785411784/1000000000000 m^3|qt 946352946/1000000000000 m^3
pt 473176473/1000000000000 m^3|cup 2365882365/10000000000000 m^3
floz 295735295625/10000000000000000 m^3|mph 44704/100000 m*s^-1|kn 1852/3600 m*s^-1
kph 1000/3600 m*s^-1|atm 101325 kg*m^-1*s^-2|psi 8896443230521/1290320000 kg*m^-1*s^-2
mmHg 133322387415/1000000000 kg*m^-1*s^-2|hp 74569987158227022/100000000000000 kg*m^2*s^-3
BTU 105505585262/100000000 kg*m^2*s^-2|carat 2/10000 kg|ton 90718474/100000 kg|rpm 1/60 s^-1
"""
_NAMES = {
    "meter": "m", "metre": "m", "gram": "g", "second": "s", "sec": "s", "minute": "min",
    "hour": "h", "hr": "h", "days": "day", "d": "day", "weeks": "week", "yr": "year", "in": "inch",
    "foot": "ft", "feet": "ft", "inches": "inch", "yard": "yd", "mile": "mi", "pound": "lb",
    "lbs": "lb", "ounce": "oz", "stone": "st", "liter": "L", "litre": "L", "gallon": "gal",
    "quart": "qt", "pint": "pt", "kilometer": "km", "kilometre": "km", "centimeter": "cm",
    "centimetre": "cm", "millimeter": "mm", "millimetre": "mm", "kilogram": "kg", "kilo": "kg",
    "milligram": "mg", "tonne": "t", "milliliter": "mL", "millilitre": "mL", "byte": "B",
    "kilobyte": "kB", "KB": "kB", "megabyte": "MB", "gigabyte": "GB", "terabyte": "TB",
    "joule": "J", "watt": "W", "volt": "V", "ampere": "A", "amp": "A", "newton": "N",
    "pascal": "Pa", "hertz": "Hz", "knot": "kn", "hectare": "ha", "calorie": "cal", "ohm": "Ohm",
    "Ω": "Ohm", "kelvin": "K", "horsepower": "hp", "atmosphere": "atm", "ml": "mL", "km/hr": "kph",
    "kmh": "kph", "lightyear": "ly", "bits": "bit", "b": "bit", "millisecond": "ms",
    "microsecond": "us", "farad": "F", "coulomb": "C", "tesla": "T",
    "parsec": "pc", "nanosecond": "ns", "kilowatt": "kW", "megawatt": "MW",
}  # fmt: skip
# Kelvin = (value + offset) * factor.
_TEMPERATURES = {
    "K": (Fraction(0), Fraction(1)),
    "degC": (Fraction(27315, 100), Fraction(1)),
    "degF": (Fraction(45967, 100), Fraction(5, 9)),
    "degR": (Fraction(0), Fraction(5, 9)),
}
_DEGREES = {"°C": "degC", "C": "degC", "celsius": "degC", "°F": "degF", "F": "degF"} | {
    "fahrenheit": "degF", "kelvin": "K", "rankine": "degR", "centigrade": "degC", "°K": "K",
}  # fmt: skip
_PART = re.compile(
    r"\s*([*/·]?)\s*([A-Za-zµμΩ°]+|1)\s*(?:(?:\^|\*\*)\s*\(?(-?\d{1,2})\)?|([²³]))?\s*"
)


def convert(value: Fraction, source: str, target: str) -> Fraction:
    """Converts a value from one unit to another, exactly.

    Raises:
        ToolError: A unit is not known, or they measure different things.
    """
    warm = [_DEGREES.get(unit, _DEGREES.get(unit.lower(), unit)) for unit in (source, target)]
    if all(unit in _TEMPERATURES for unit in warm):
        offset, factor = _TEMPERATURES[warm[0]]
        back, scale = _TEMPERATURES[warm[1]]
        return (value + offset) * factor / scale - back
    from_factor, from_dimension = _read(source)
    to_factor, to_dimension = _read(target)
    if from_dimension != to_dimension:
        raise ToolError(
            f"{source} measures {_shown(from_dimension)}, {target} {_shown(to_dimension)}.",
            hint="Give two units of the same kind.",
        )
    return value * from_factor / to_factor


def _read(text: str) -> tuple[Fraction, _Dimension]:
    factor, dimension = Fraction(1), [0] * len(_BASE)
    position = parts = 0
    while position < len(text) and parts < _MOST_PARTS:
        found = _PART.match(text, position)
        if found is None or (position and not found[1]):
            break
        power = int(found[3] or {"²": 2, "³": 3}.get(found[4] or "", 1))
        if abs(power) > _LARGEST_POWER:
            break
        power = -power if found[1] == "/" else power
        each, kind = _unit(found[2])
        factor *= each**power
        dimension = [old + power * new for old, new in zip(dimension, kind, strict=True)]
        position, parts = found.end(), parts + 1
    if position < len(text) or not text.strip():
        raise ToolError(f"{text!r} is no unit.", hint="Write it like km/h, m/s^2 or kg*m^2.")
    return factor, tuple(dimension)


def _unit(name: str) -> tuple[Fraction, _Dimension]:
    if name == "1":
        return Fraction(1), (0,) * len(_BASE)
    plain = _NAMES.get(name) or _NAMES.get(name.lower().removesuffix("s")) or name
    if plain in _UNITS:
        return _UNITS[plain]
    for prefixes, base in ((_PREFIXES, 10), (_BINARY, 2)):
        for length in (2, 1):
            prefix, rest = plain[:length], plain[length:]
            if (
                prefix in prefixes
                and rest in _TAKES_PREFIX
                and (base == 10 or rest in {"B", "bit"})
            ):
                factor, dimension = _UNITS[rest]
                return factor * Fraction(base) ** prefixes[prefix], dimension
    hint = did_you_mean(name, [*_UNITS, *_NAMES, *_TEMPERATURES])
    raise ToolError(
        f"There is no unit {name!r} here.",
        hint=hint or "Known are SI units with prefixes, and ft, mi, lb, gal, h, day, kn, degC, ….",
    )


def _table(text: str) -> dict[str, tuple[Fraction, _Dimension]]:
    found = {}
    for entry in text.replace("\n", "|").strip("|").split("|"):
        name, number, made_of = entry.split()
        top, _, bottom = number.partition("/")
        numerator = 1
        for each in top.split("*"):
            numerator *= int(each)
        dimension = [0] * len(_BASE)
        for part in made_of.split("*"):
            base, _, power = part.partition("^")
            dimension[_BASE.index(base)] += int(power or 1)
        found[name] = (Fraction(numerator, int(bottom or 1)), tuple(dimension))
    return found


_TAKES_PREFIX = frozenset(_table(_PREFIXED))
_UNITS = _table(_PREFIXED) | _table(_PLAIN)


def _shown(dimension: _Dimension) -> str:
    parts = [
        name if power == 1 else f"{name}^{power}"
        for name, power in zip(_BASE, dimension, strict=True)
        if power
    ]
    return "*".join(parts) or "a plain number"
