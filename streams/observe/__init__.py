"""Metrics catalogue, sensor, health endpoints."""
