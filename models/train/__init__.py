"""Seeded scripts that rebuild each shipped weight file."""
