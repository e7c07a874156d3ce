"""What can be measured of the memory, a suite a module: `run(**options)` returns what goes to JSON."""
