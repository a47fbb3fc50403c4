"""One inference task a file, each registered in `models.registry`."""
