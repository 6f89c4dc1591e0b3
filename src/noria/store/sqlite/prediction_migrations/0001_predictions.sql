CREATE TABLE predictions (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL, loop TEXT NOT NULL, key TEXT,
    version INTEGER NOT NULL, at TEXT NOT NULL, failed INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX predictions_by_id ON predictions (id);
CREATE INDEX predictions_by_key ON predictions (loop, key, sequence) WHERE key IS NOT NULL AND failed = 0;
CREATE INDEX predictions_by_version ON predictions (loop, version, sequence);
CREATE INDEX predictions_by_time ON predictions (loop, at);
CREATE TABLE labels (sequence INTEGER PRIMARY KEY AUTOINCREMENT, loop TEXT NOT NULL, key TEXT, prediction TEXT,
    at TEXT NOT NULL, target INTEGER, body BLOB NOT NULL);
CREATE INDEX labels_by_loop ON labels (loop, sequence);
CREATE INDEX labels_by_target ON labels (target) WHERE target IS NOT NULL;
CREATE INDEX labels_waiting ON labels (loop, key) WHERE target IS NULL;
CREATE INDEX labels_waiting_for_id ON labels (loop, prediction) WHERE target IS NULL
