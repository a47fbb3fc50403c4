"""`headrace verify`: a numbered load, real workers, injected faults, and an oracle that knows the log alone."""
