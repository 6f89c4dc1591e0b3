CREATE TABLE overrides (rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT COLLATE "C" PRIMARY KEY,
    loop TEXT COLLATE "C" NOT NULL, version BIGINT NOT NULL, prediction TEXT COLLATE "C" NOT NULL,
    at TEXT COLLATE "C" NOT NULL, body BYTEA NOT NULL);
CREATE INDEX overrides_by_prediction ON overrides (prediction, at);
CREATE INDEX overrides_by_time ON overrides (loop, at);
