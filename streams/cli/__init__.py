"""The `headrace` commands: one file a command group. Each parses, builds, runs and says how it ended."""
