"""The prediction log of a store in a folder: append-only segments, indexed, then compacted into tables."""
