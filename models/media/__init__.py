"""Bytes to arrays: audio, images, text; every bound on hostile input."""
