"""Readers and items on the stream: lists made, asked for, learnt from and scored; the transitions between."""
