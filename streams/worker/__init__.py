"""The composition root: agents, readers, producers and Faust wired to a worker."""
