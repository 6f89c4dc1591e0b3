CREATE TABLE models (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE model_versions (name TEXT NOT NULL, version INTEGER NOT NULL, run TEXT NOT NULL, model TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (name, version)) WITHOUT ROWID;
CREATE INDEX model_versions_by_run ON model_versions (run);
CREATE INDEX model_versions_by_model ON model_versions (model);
CREATE TABLE model_aliases (name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (name, alias)) WITHOUT ROWID;
CREATE TABLE logged_models (id TEXT PRIMARY KEY, experiment INTEGER NOT NULL, run TEXT NOT NULL,
    created INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX logged_models_by_experiment ON logged_models (experiment, created);
CREATE TABLE traces (id TEXT PRIMARY KEY, experiment INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX traces_by_experiment ON traces (experiment, at);
CREATE TABLE evaluation_datasets (id TEXT PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE evaluation_records (id TEXT PRIMARY KEY, dataset TEXT NOT NULL, key TEXT NOT NULL,
    created INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (dataset, key));
CREATE INDEX evaluation_records_by_time ON evaluation_records (dataset, created);
CREATE TABLE webhooks (id TEXT PRIMARY KEY, created INTEGER NOT NULL, body BLOB NOT NULL);
