"""The embedded back-end: one SQLite file for the ledger, one for predictions."""
