"""Dataset version and steps -> Run: code identity, cached steps, provenance and the model bundle.

Promises that a step is run again exactly when its code (helpers and constants included), inputs, knobs or
packages changed, and that a bundle holds nothing that executes on load.
"""
