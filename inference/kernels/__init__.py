"""Native kernels, one table of function pointers an instruction set."""
