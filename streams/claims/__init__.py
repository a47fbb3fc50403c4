"""Claim checks: payloads that lie elsewhere, opened from allowed places only."""
