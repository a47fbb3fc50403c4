"""Forgetting readers, and readers who want no profile: `docs/privacy.md` says where each byte of a reader lies."""
