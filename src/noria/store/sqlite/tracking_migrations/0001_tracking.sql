CREATE TABLE experiments (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, artifacts TEXT NOT NULL,
    stage TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL);
CREATE TABLE experiment_tags (experiment INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (experiment, key)) WITHOUT ROWID;
CREATE TABLE runs (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, experiment INTEGER NOT NULL, name TEXT NOT NULL,
    user_name TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER,
    artifacts TEXT NOT NULL, deleted INTEGER);
CREATE INDEX runs_by_start ON runs (experiment, started DESC, id);
CREATE INDEX runs_by_deletion ON runs (deleted) WHERE deleted IS NOT NULL;
CREATE TABLE params (run INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, experiment INTEGER NOT NULL,
    PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX params_by_value ON params (experiment, key, substr(value, 1, 64));
CREATE TABLE tags (run INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, experiment INTEGER NOT NULL,
    PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX tags_by_value ON tags (experiment, key, substr(value, 1, 64));
CREATE TABLE latest (run INTEGER NOT NULL, key TEXT NOT NULL, value REAL NOT NULL, nan INTEGER NOT NULL,
    time INTEGER NOT NULL, step INTEGER NOT NULL, experiment INTEGER NOT NULL,
    PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX latest_by_value ON latest (experiment, key, nan, value);
CREATE TABLE metrics (run INTEGER NOT NULL, key TEXT NOT NULL, time INTEGER NOT NULL, step INTEGER NOT NULL,
    value REAL NOT NULL, nan INTEGER NOT NULL, PRIMARY KEY (run, key, time, step, value, nan)) WITHOUT ROWID;
CREATE TABLE model_metrics (model TEXT NOT NULL, run TEXT NOT NULL, key TEXT NOT NULL, time INTEGER NOT NULL,
    step INTEGER NOT NULL, value REAL NOT NULL, nan INTEGER NOT NULL, dataset_name TEXT NOT NULL,
    dataset_digest TEXT NOT NULL,
    PRIMARY KEY (model, key, time, step, value, nan, run, dataset_name, dataset_digest)) WITHOUT ROWID;
CREATE TABLE datasets (number INTEGER PRIMARY KEY, experiment INTEGER NOT NULL, name TEXT NOT NULL,
    digest TEXT NOT NULL, source_type TEXT NOT NULL, source TEXT NOT NULL, schema TEXT NOT NULL, profile TEXT NOT NULL,
    UNIQUE (experiment, name, digest));
CREATE TABLE inputs (run INTEGER NOT NULL, dataset INTEGER NOT NULL, context TEXT NOT NULL, tags TEXT NOT NULL,
    PRIMARY KEY (run, dataset)) WITHOUT ROWID;
CREATE INDEX inputs_by_dataset ON inputs (dataset, context);
CREATE TABLE model_links (run INTEGER NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, step INTEGER NOT NULL,
    PRIMARY KEY (run, kind, model)) WITHOUT ROWID;
CREATE TABLE artifacts (path TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL,
    created INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX artifacts_by_digest ON artifacts (digest);
INSERT INTO experiments (id, name, artifacts, stage, created, updated)
    VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', 0, 0);
