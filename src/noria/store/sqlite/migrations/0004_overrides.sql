CREATE TABLE overrides (id TEXT PRIMARY KEY, loop TEXT NOT NULL, version INTEGER NOT NULL, prediction TEXT NOT NULL,
    at TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX overrides_by_prediction ON overrides (prediction, at);
CREATE INDEX overrides_by_time ON overrides (loop, at);
