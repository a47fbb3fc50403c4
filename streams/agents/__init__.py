"""One agent a file, each registered in `streams.registry`."""
