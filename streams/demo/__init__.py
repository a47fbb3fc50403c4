"""The embedded broker, the sample feed and the terminal view of `headrace demo`."""
