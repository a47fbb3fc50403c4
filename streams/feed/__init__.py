"""Recorded clicks and folders of media, played into the input topics."""
