"""The folder that the tasks for teams are about: notes, a log, figures, a database, faulty code."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["AMOUNTS", "ERRORS", "make_scene"]

AMOUNTS = (("north", 120.5), ("south", 310.0), ("north", 89.9), ("west", 455.25), ("south", 62.4))
_LEVELS = ("INFO", "ERROR", "INFO", "WARNING", "ERROR", "INFO", "ERROR")
_LOG = [
    f"2025-03-{day:02d} {_LEVELS[(3 * day) % 7]} pump {day % 4} reported" for day in range(1, 29)
]
ERRORS = sum(" ERROR " in line for line in _LOG)
_README = """# Tidewatch

Tidewatch records the water level of small harbours.

- Maintainer: Ines Okafor
- Licence: MPL-2.0
- First release: 2019
"""
_SERVER = """[server]
port = 8472
workers = 3

[cache]
backend = redis
ttl_seconds = 900
"""
_MEETING = """# Monday

The release moves to June.
The budget stays at 14,000 euros.
"""
_AVERAGE = '''def average(values):
    """Return the mean of some numbers."""
    total = 0
    for value in values:
        total = value
    return total / len(values)
'''
_LOGIN = '''import sqlite3


def find_user(path, name):
    """Return the row of a user."""
    connection = sqlite3.connect(path)
    query = "SELECT * FROM users WHERE name = '" + name + "'"
    return connection.execute(query).fetchone()
'''
_ITEMS = '''def add_item(item, items=[]):
    """Return the items with one more."""
    items.append(item)
    return items


def last(items):
    """Return the last item."""
    return items[len(items)]
'''
_FILES = {
    "README.md": _README,
    "server.ini": _SERVER,
    "meeting.md": _MEETING,
    "app.log": "\n".join(_LOG) + "\n",
    "sales.csv": "region,amount\n" + "".join(f"{name},{value}\n" for name, value in AMOUNTS),
    "average.py": _AVERAGE,
    "login.py": _LOGIN,
    "items.py": _ITEMS,
}
_PRODUCTS = ((1, "lamp", 24.0), (2, "desk", 180.0), (3, "chair", 75.5), (4, "shelf", 61.0))
_ORDERS = ((1, 2, "Ada"), (2, 4, "Bo"), (3, 1, "Ada"), (4, 3, "Cy"), (5, 2, "Bo"), (6, 2, "Ada"))


def make_scene(home: Path) -> None:
    """Writes the files and the database shop.db into a folder."""
    for name, text in _FILES.items():
        (home / name).write_text(text, encoding="utf-8")
    with closing(sqlite3.connect(home / "shop.db")) as connection:
        connection.executescript(
            "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price REAL);"
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, product INTEGER, customer TEXT);"
        )
        connection.executemany("INSERT INTO products VALUES (?, ?, ?)", _PRODUCTS)
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", _ORDERS)
        connection.commit()
