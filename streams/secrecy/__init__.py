"""Keys and secrets: files that hold them, pseudonyms, sealed letters, contacts that are masked."""
