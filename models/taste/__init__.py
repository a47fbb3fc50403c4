"""Users' taste as vectors and counts, and the lists made from them. NumPy alone."""
