"""The tables of the settings, one file an idea; `streams.settings` puts them together."""
