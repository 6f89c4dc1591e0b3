CREATE TABLE loops (name TEXT PRIMARY KEY, updated TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE datasets (id TEXT NOT NULL, loop TEXT NOT NULL, created TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (loop, id));
CREATE INDEX datasets_by_time ON datasets (loop, created);
CREATE TABLE turns (id TEXT PRIMARY KEY, loop TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL,
    created TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (loop, number));
CREATE TABLE runs (id TEXT PRIMARY KEY, loop TEXT NOT NULL, turn TEXT NOT NULL, status TEXT NOT NULL,
    started TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX runs_by_time ON runs (loop, started);
CREATE INDEX runs_by_turn ON runs (turn);
CREATE TABLE reports (id TEXT PRIMARY KEY, loop TEXT NOT NULL, run TEXT NOT NULL, turn TEXT NOT NULL,
    created TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX reports_by_time ON reports (loop, created);
CREATE TABLE versions (loop TEXT NOT NULL, version INTEGER NOT NULL, run TEXT NOT NULL, stage TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (loop, version)) WITHOUT ROWID;
CREATE TABLE aliases (loop TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (loop, alias)) WITHOUT ROWID;
CREATE TABLE deployments (loop TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (loop, revision)) WITHOUT ROWID;
CREATE TABLE alerts (id TEXT PRIMARY KEY, loop TEXT NOT NULL, version INTEGER NOT NULL, at TEXT NOT NULL,
    severity TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX alerts_by_time ON alerts (loop, at);
CREATE TABLE requests (id TEXT PRIMARY KEY, loop TEXT NOT NULL, at TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX requests_by_time ON requests (loop, at);
CREATE TABLE cache (key TEXT PRIMARY KEY, loop TEXT NOT NULL, step TEXT NOT NULL, created TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX cache_by_step ON cache (loop, step, created);
CREATE TABLE leases (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE monitors (loop TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (loop, version)) WITHOUT ROWID;
CREATE TABLE windows (id TEXT PRIMARY KEY, loop TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL,
    start TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX windows_by_time ON windows (loop, kind, start);
CREATE TABLE audit (number INTEGER PRIMARY KEY, at TEXT NOT NULL, subject TEXT NOT NULL, digest TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX audit_by_subject ON audit (subject, number);
