"""One agent a file, each registered in `streams.agents.registry`."""
