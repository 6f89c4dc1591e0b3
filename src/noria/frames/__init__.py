"""Frames: the ground every room's tables stand on.

Polars inside; pandas and PyArrow only at the border, where a user's annotation asks for them; a digest of
values, a small profile, Parquet, and typed frames from plain records.
"""
