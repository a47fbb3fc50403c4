"""Planning and running device batches; checked weights."""
