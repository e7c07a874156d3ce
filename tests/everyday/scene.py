"""Makes the folder of the everyday tasks: notes, logs, data, a shop database, a git repository.

README.md  config/server.ini  notes/*.md  logs/app.log  data/sales.csv  src/*.py  shop.db  webapp/
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

__all__ = ["CUSTOMERS", "LOG", "ORDERS", "PRODUCTS", "SALES", "make_scene"]

README = """# Tidewatch

Tidewatch records the water level of small harbours and draws it as a chart.

- Maintainer: Ines Okafor
- Licence: MPL-2.0
- First release: 2019

## Usage

Run `python -m tidewatch --port 8080` and open the page in a browser.
"""
SERVER_INI = """[server]
host = 0.0.0.0
port = 8472
workers = 3

[cache]
backend = redis
port = 6380
ttl_seconds = 900
"""
NOTES = {
    "meeting-monday.md": "# Monday\n\nThe release moves to June.\nBudget stays at 14,000 euros.\n",
    "ideas.md": "# Ideas\n\n- a darker theme\n- tide tables as PDF\n- an alarm for high water\n",
    "inventory.md": "# Inventory\n\n- 4 pressure sensors\n- 2 Kestrel wind meters\n- 11 cables\n",
    "travel.md": "# Travel\n\nTrain to Bergen at 7:40, back on Friday.\nHotel: Solvik, room 212.\n",
}
LOG = "\n".join(
    f"2025-03-{1 + i // 6:02d} {8 + i % 6:02d}:1{i % 10}:00 "
    f"{('ERROR' if i % 5 == 3 else 'WARNING' if i % 4 == 1 else 'INFO')} "
    f"{('pump controller did not answer' if i % 5 == 3 else 'level measured')}"
    for i in range(36)
)
SALES = (
    ("2025-01-04", "north", 120.50),
    ("2025-01-09", "south", 310.00),
    ("2025-01-17", "north", 89.90),
    ("2025-02-02", "west", 455.25),
    ("2025-02-11", "south", 62.40),
    ("2025-02-23", "north", 240.00),
    ("2025-03-05", "west", 178.35),
    ("2025-03-19", "east", 99.99),
)
SRC = {
    "median.py": (
        "def median(values):\n"
        '    """Returns the median of a list of numbers."""\n'
        "    ordered = sorted(values)\n"
        "    return ordered[len(ordered) // 2]\n"
    ),
    "levels.py": "TIDE_OFFSET = 0.35\n\n\ndef level(raw):\n    return raw * 0.01 + TIDE_OFFSET\n",
    "chart.py": "def bars(values):\n    return ['#' * int(v) for v in values]\n",
}
CHANGES = """0.9 faster charts
1.0 first stable release
1.1 alarms by mail
1.2 support for Norwegian harbours
"""
CUSTOMERS = (
    (1, "Marta Nilsen", "Norway"),
    (2, "Jonas Weber", "Germany"),
    (3, "Aiko Tanaka", "Japan"),
    (4, "Pedro Alves", "Portugal"),
    (5, "Lise Dahl", "Norway"),
    (6, "Emma Brandt", "Germany"),
    (7, "Olav Haugen", "Norway"),
    (8, "Sofia Costa", "Portugal"),
)
PRODUCTS = (
    (1, "Desk lamp", 39.0),
    (2, "Office chair", 189.0),
    (3, "Notebook", 4.5),
    (4, "Standing desk", 420.0),
    (5, "Cable tray", 24.0),
)
# id, customer, product, quantity, ordered on
ORDERS = (
    (1, 1, 2, 2, "2025-01-12"),
    (2, 2, 1, 3, "2025-01-20"),
    (3, 3, 4, 1, "2025-02-03"),
    (4, 1, 3, 10, "2025-02-14"),
    (5, 4, 5, 4, "2025-03-01"),
    (6, 5, 2, 4, "2025-03-08"),
    (7, 2, 4, 1, "2025-03-15"),
    (8, 7, 1, 2, "2025-03-29"),
    (9, 3, 3, 20, "2025-04-02"),
    (10, 5, 5, 1, "2025-04-11"),
)
COMMITS = (
    ("Tomas Lindqvist", "2025-01-06", "README.md", "# Webapp\n", "Start the project"),
    ("Tomas Lindqvist", "2025-01-08", "server.py", "PORT = 8000\n", "Add a server"),
    (
        "Priya Nair",
        "2025-01-15",
        "login.py",
        "def login(user, word):\n    return True\n",
        "Add login",
    ),
    ("Tomas Lindqvist", "2025-02-03", "server.py", "PORT = 8080\n", "Use port 8080"),
    (
        "Hana Sato",
        "2025-02-20",
        "login.py",
        "def login(user, word):\n    return bool(word)\n",
        "Fix login bug with empty passwords",
    ),
    ("Priya Nair", "2025-03-02", "style.css", "body { margin: 0 }\n", "Add a style sheet"),
    ("Priya Nair", "2025-03-11", "README.md", "# Webapp\n\nA small page.\n", "Describe the page"),
)


def make_scene(root: Path) -> None:
    """Fills an empty folder."""
    _write(root / "README.md", README)
    _write(root / "CHANGES.txt", CHANGES)
    _write(root / "config" / "server.ini", SERVER_INI)
    for name, text in NOTES.items():
        _write(root / "notes" / name, text)
    _write(root / "logs" / "app.log", LOG + "\n")
    rows = "".join(f"{day},{region},{amount:.2f}\n" for day, region, amount in SALES)
    _write(root / "data" / "sales.csv", "date,region,amount\n" + rows)
    for name, text in SRC.items():
        _write(root / "src" / name, text)
    _make_database(root / "shop.db")
    _make_repository(root / "webapp")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, country TEXT);"
            "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price REAL);"
            "CREATE TABLE orders (id INTEGER PRIMARY KEY,"
            " customer_id INTEGER REFERENCES customers(id),"
            " product_id INTEGER REFERENCES products(id), quantity INTEGER, ordered_on TEXT);"
        )
        db.executemany("INSERT INTO customers VALUES (?, ?, ?)", CUSTOMERS)
        db.executemany("INSERT INTO products VALUES (?, ?, ?)", PRODUCTS)
        db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", ORDERS)


def _make_repository(path: Path) -> None:
    path.mkdir(parents=True)
    _git(path, "init", "--quiet", "--initial-branch", "trunk")
    for author, day, name, text, message in COMMITS:
        _write(path / name, text)
        _git(path, "add", name)
        mail = author.split()[0].lower() + "@example.org"
        stamp = f"{day}T12:00:00+00:00"
        identity = {"NAME": author, "EMAIL": mail, "DATE": stamp}
        who = {
            f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in identity.items()
        }
        _git(path, "commit", "--quiet", "--message", message, env=who)
    _write(path / "style.css", "body { margin: 0; color: navy }\n")


def _git(path: Path, *args: str, env: dict[str, str] | None = None) -> None:
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *args], cwd=path, check=True, env={**os.environ, **quiet, **(env or {})})
