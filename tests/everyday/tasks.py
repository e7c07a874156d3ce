"""Thirty everyday tasks as a user types them, and ten held back to see what carries over.

The kinds: arithmetic (and dates), files, sql, functions, git, memory. A task with several `asks`
runs them one after another on one store; the check reads the last answer. The words of a task are
fixed: when a task fails, the platform is what gets changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from . import scene
from .checks import Check, all_of, code, day, file_lines, names, number

__all__ = ["HELD_BACK", "KINDS", "TASKS", "EverydayTask"]

KINDS = ("arithmetic", "files", "sql", "functions", "git", "memory")


@dataclass(frozen=True, slots=True)
class EverydayTask:
    """One task: what is asked, and how the last answer is checked."""

    id: str
    kind: str
    asks: tuple[str, ...]
    check: Check


def _task(kind: str, name: str, *asks: str, check: Check) -> EverydayTask:
    return EverydayTask(f"{kind}-{name}", kind, asks, check)


_ERRORS = sum(" ERROR " in line for line in scene.LOG.splitlines())
_SALES = round(sum(amount for _, _, amount in scene.SALES), 2)
_NORTH = round(sum(amount for _, region, amount in scene.SALES if region == "north"), 2)
_PEOPLE = tuple(name for _, name, _ in scene.CUSTOMERS)
_SILENT = tuple(
    name for key, name, _ in scene.CUSTOMERS if key not in {order[1] for order in scene.ORDERS}
)
_BUYERS = tuple(name for name in _PEOPLE if name not in _SILENT)
_REVENUE = {
    name: sum(price * order[3] for order in scene.ORDERS if order[2] == key)
    for key, name, price in scene.PRODUCTS
}
_BEST = max(_REVENUE, key=lambda name: _REVENUE[name])
_MEAN_PRICE = round(sum(p for *_, p in scene.PRODUCTS) / len(scene.PRODUCTS), 2)

TASKS: tuple[EverydayTask, ...] = (
    _task(
        "arithmetic",
        "percent",
        "What is 17.5% of 2,348.64, rounded to two decimals?",
        check=number(411.01),
    ),
    _task(
        "arithmetic",
        "days-between",
        "How many days are there between 14 March 2023 and 2 November 2025?",
        check=number((date(2025, 11, 2) - date(2023, 3, 14)).days),
    ),
    _task(
        "arithmetic",
        "weekday",
        "Which day of the week was 20 July 1969?",
        check=names("Sunday", never=("Monday", "Saturday", "Tuesday", "Friday")),
    ),
    _task(
        "arithmetic",
        "interest",
        "I borrow 12,000 euros at 4.2% a year, compounded monthly, and pay nothing back for "
        "3 years. How much do I owe then, to the cent?",
        check=number(round(12000 * (1 + 0.042 / 12) ** 36, 2)),
    ),
    _task(
        "arithmetic",
        "primes",
        "What is the sum of all prime numbers below 1000?",
        check=number(76127),
    ),
    _task(
        "arithmetic",
        "recipe",
        "A recipe for 6 people needs 450 g of flour. How many grams do I need for 11 people?",
        check=number(825),
    ),
    _task(
        "files",
        "server-port",
        "Which port does the server use according to config/server.ini?",
        check=all_of(number(8472), names(never=("6380",))),
    ),
    _task(
        "files",
        "find-word",
        "Which file in the notes folder mentions Kestrel?",
        check=names("inventory", never=("ideas.md", "travel.md", "meeting")),
    ),
    _task(
        "files",
        "count-errors",
        "How many lines in logs/app.log are errors?",
        check=number(_ERRORS),
    ),
    _task(
        "files",
        "sum-column",
        "Add up the amount column in data/sales.csv.",
        check=number(_SALES, 0.005),
    ),
    _task(
        "files",
        "maintainer",
        "Who maintains the project described in README.md, and what is its licence?",
        check=names("Ines Okafor", "MPL"),
    ),
    _task(
        "files",
        "write-list",
        "Make a file todo.txt with three lines: buy milk, call Anna, pay rent.",
        check=file_lines("todo.txt", "buy milk", "call Anna", "pay rent"),
    ),
    _task(
        "sql",
        "count",
        "How many customers in shop.db live in Norway?",
        check=number(3),
    ),
    _task(
        "sql",
        "revenue",
        "Which product in shop.db has brought in the most money?",
        check=names(_BEST, never=tuple(n for n in _REVENUE if n != _BEST)),
    ),
    _task(
        "sql",
        "mean-price",
        "What is the average price of the products in shop.db?",
        check=number(_MEAN_PRICE, 0.005),
    ),
    _task(
        "sql",
        "month",
        "How many orders were placed in March 2025? The orders are in shop.db.",
        check=number(sum(order[4].startswith("2025-03") for order in scene.ORDERS)),
    ),
    _task(
        "sql",
        "no-orders",
        "Which customers in shop.db have never ordered anything?",
        check=names(*_SILENT, never=_BUYERS),
    ),
    _task(
        "functions",
        "palindrome",
        "Write a Python function is_palindrome(text) that ignores case, spaces and punctuation, "
        "and test it.",
        check=code(
            "assert is_palindrome('A man, a plan, a canal: Panama!') is True\n"
            "assert is_palindrome('') is True\n"
            "assert is_palindrome('abca') is False\n"
            "assert is_palindrome('No lemon, no melon') is True\n"
        ),
    ),
    _task(
        "functions",
        "roman",
        "Write a Python function roman_to_int(s) that turns a Roman numeral into an integer.",
        check=code(
            "cases = dict(III=3, IX=9, LVIII=58, MCMXCIV=1994, XLII=42)\n"
            "for text, value in cases.items():\n"
            "    assert roman_to_int(text) == value, text\n"
        ),
    ),
    _task(
        "functions",
        "intervals",
        "Write a function merge_intervals(intervals) in Python. It gets a list of [start, end] "
        "lists and returns the merged, sorted intervals. Intervals that touch, like [1, 4] and "
        "[4, 5], are merged too.",
        check=code(
            "got = merge_intervals([[8, 10], [1, 3], [2, 6], [15, 18]])\n"
            "assert [list(x) for x in got] == [[1, 6], [8, 10], [15, 18]], got\n"
            "assert [list(x) for x in merge_intervals([[1, 4], [4, 5]])] == [[1, 5]]\n"
            "assert list(merge_intervals([])) == []\n"
            "assert [list(x) for x in merge_intervals([[1, 9], [2, 3]])] == [[1, 9]]\n"
        ),
    ),
    _task(
        "functions",
        "word-counts",
        "I need a Python function word_counts(text). It should return a dict from each lower-case "
        "word to how often it occurs. Punctuation is not part of a word.",
        check=code(
            "assert dict(word_counts('The cat. The dog, the CAT!')) == "
            "{'the': 3, 'cat': 2, 'dog': 1}\n"
            "assert dict(word_counts('')) == {}\n"
        ),
    ),
    _task(
        "functions",
        "chunk",
        "Write a Python function chunk(items, size) that splits a list into lists of at most size "
        "items. It should raise ValueError when size is less than 1.",
        check=code(
            "assert [list(x) for x in chunk([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]\n"
            "assert list(chunk([], 3)) == []\n"
            "for size in (0, -1):\n"
            "    try:\n"
            "        list(chunk([1], size))\n"
            "    except ValueError:\n"
            "        continue\n"
            "    raise AssertionError('no ValueError')\n"
        ),
    ),
    _task(
        "functions",
        "fix-median",
        "The function in src/median.py is wrong for lists of even length. "
        "Show me a corrected version.",
        check=code(
            "assert median([1, 2, 3, 4]) == 2.5\n"
            "assert median([5, 1, 3]) == 3\n"
            "assert median([10, 2]) == 6\n"
        ),
    ),
    _task(
        "git",
        "last-author",
        "Who made the latest commit in the git repository webapp?",
        check=names("Priya Nair", never=("Tomas", "Hana")),
    ),
    _task(
        "git",
        "changed-file",
        "Which file in the webapp repository has uncommitted changes?",
        check=names("style.css", never=("login.py", "server.py", "README.md")),
    ),
    _task(
        "git",
        "who-fixed",
        "Who fixed the login bug in the webapp repository?",
        check=names("Hana Sato", never=("Tomas", "Priya")),
    ),
    _task(
        "git",
        "count-commits",
        "How many commits does the git repository webapp have?",
        check=number(len(scene.COMMITS)),
    ),
    _task(
        "memory",
        "locker",
        "Remember that my locker code is 4417.",
        "What is my locker code?",
        check=number(4417),
    ),
    _task(
        "memory",
        "birthday",
        "Please remember that Oskar's birthday is on 9 May and that he likes lemon cake.",
        "Remember that the boiler was serviced on 3 February 2025.",
        "When is Oskar's birthday?",
        check=all_of(day(date(2000, 5, 9)), names(never=("February",))),
    ),
    _task(
        "memory",
        "staging",
        "Keep in mind: our staging server is called heron-7 and stands in Frankfurt.",
        "In which city is our staging server?",
        check=names("Frankfurt"),
    ),
)

HELD_BACK: tuple[EverydayTask, ...] = (
    _task(
        "arithmetic",
        "days-after",
        "What date is 100 days after 25 December 2024?",
        check=day(date(2025, 4, 4)),
    ),
    _task(
        "arithmetic",
        "tip",
        "Four of us share a bill of 186.40 with a 12% tip. How much does each of us pay?",
        check=number(52.19, 0.005),
    ),
    _task(
        "files",
        "count-files",
        "How many Python files are in the src folder?",
        check=number(len(scene.SRC)),
    ),
    _task(
        "files",
        "region",
        "What is the total amount for the north region in data/sales.csv?",
        check=number(_NORTH, 0.005),
    ),
    _task(
        "sql",
        "cheapest",
        "What is the cheapest product in shop.db?",
        check=names("Notebook", never=("Desk lamp", "Office chair", "Standing desk", "Cable tray")),
    ),
    _task(
        "sql",
        "largest-order",
        "Who ordered the standing desk, according to shop.db?",
        check=names("Aiko Tanaka", "Jonas Weber", never=("Marta", "Pedro", "Lise", "Olav")),
    ),
    _task(
        "functions",
        "fibonacci",
        "Write a Python function fibonacci(n) that returns the n-th Fibonacci number, "
        "with fibonacci(0) = 0 and fibonacci(1) = 1, and check it.",
        check=code("assert [fibonacci(n) for n in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]\n"),
    ),
    _task(
        "functions",
        "flatten",
        "Write a Python function flatten(nested) that turns a list with lists in it, however deep, "
        "into one flat list.",
        check=code(
            "assert list(flatten([1, [2, [3, [4]], 5]])) == [1, 2, 3, 4, 5]\n"
            "assert list(flatten([])) == []\n"
        ),
    ),
    _task(
        "git",
        "branch",
        "Which branch is checked out in the webapp repository?",
        check=names("trunk"),
    ),
    _task(
        "memory",
        "wifi",
        "Note for later: the guest Wi-Fi password is blue-otter-52.",
        "What's the password of the guest Wi-Fi?",
        check=names("blue-otter-52"),
    ),
)
