"""The engine: reads model files, runs them on the CPU, and generates text."""
