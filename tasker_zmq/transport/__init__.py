"""Frames in and out; knows sockets, not messages."""
