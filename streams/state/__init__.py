"""State per partition: columnar rows, changelog, recovery."""
