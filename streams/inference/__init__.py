"""Futures to device batches: admission, one device thread, results back to the loop."""
