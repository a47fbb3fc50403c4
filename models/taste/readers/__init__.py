"""Readers: their rows, what enters them, what is saved of them. NumPy alone."""
