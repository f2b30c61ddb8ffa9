"""Measurements; run them from the top folder."""
