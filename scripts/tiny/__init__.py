"""Small byte-level models trained on the CPU: data, three architectures, the loop, the export."""
