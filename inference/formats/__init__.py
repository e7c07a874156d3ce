"""Checkpoint files: GGUF and safetensors behind one protocol, and what their bytes mean."""
