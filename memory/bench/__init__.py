"""What can be measured of the memory, a suite a module: `run(…)` returns what goes to JSON."""
