"""Questions to a worker about its own state, over HTTP."""
