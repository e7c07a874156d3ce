"""Thirty everyday tasks with checkable results; scripts/everyday.py runs them through `ask`."""
