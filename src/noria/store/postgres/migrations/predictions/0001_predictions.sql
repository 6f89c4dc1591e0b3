CREATE TABLE predictions (sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT COLLATE "C" NOT NULL, loop TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C",
    version BIGINT NOT NULL, at TEXT COLLATE "C" NOT NULL, failed BIGINT NOT NULL, body BYTEA NOT NULL);
CREATE UNIQUE INDEX predictions_by_id ON predictions (id);
CREATE INDEX predictions_by_key ON predictions (loop, key, sequence) WHERE key IS NOT NULL AND failed = 0;
CREATE INDEX predictions_by_version ON predictions (loop, version, sequence);
CREATE INDEX predictions_by_time ON predictions (loop, at);
CREATE TABLE labels (sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, loop TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C", prediction TEXT COLLATE "C",
    at TEXT COLLATE "C" NOT NULL, target BIGINT, body BYTEA NOT NULL);
CREATE INDEX labels_by_loop ON labels (loop, sequence);
CREATE INDEX labels_by_target ON labels (target) WHERE target IS NOT NULL;
CREATE INDEX labels_waiting ON labels (loop, key) WHERE target IS NULL;
CREATE INDEX labels_waiting_for_id ON labels (loop, prediction) WHERE target IS NULL
;
