"""`headrace evaluate`: recorded files in, tables and pictures out; the measuring itself is `models.evaluate`."""
