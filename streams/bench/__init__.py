"""Measurements: the worker beside plain Faust and a bare loop, on the same broker, each process on its core."""
