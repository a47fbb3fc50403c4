"""What cannot be processed: why, dead letters, and retries."""
