"""Readers who are alike, by user-user cosine. NumPy alone."""
