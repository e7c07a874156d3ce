"""Lets `python -m ryzanstein.cli` work like the console script."""

from ryzanstein.cli import main

main()
