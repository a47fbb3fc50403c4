"""Readers in arms, two lists in one, and what their clicks say of them. NumPy alone."""
