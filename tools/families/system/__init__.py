"""The machine, its processes, its disks and the time: all of it only read."""
