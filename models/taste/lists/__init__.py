"""Lists: candidates, what bars them, their stages and reasons. NumPy alone."""
