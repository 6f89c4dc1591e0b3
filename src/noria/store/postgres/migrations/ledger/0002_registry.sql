CREATE TABLE models (name TEXT COLLATE "C" PRIMARY KEY, body BYTEA NOT NULL);
CREATE TABLE model_versions (name TEXT COLLATE "C" NOT NULL, version BIGINT NOT NULL, run TEXT COLLATE "C" NOT NULL, model TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL, PRIMARY KEY (name, version));
CREATE INDEX model_versions_by_run ON model_versions (run);
CREATE INDEX model_versions_by_model ON model_versions (model);
CREATE TABLE model_aliases (name TEXT COLLATE "C" NOT NULL, alias TEXT COLLATE "C" NOT NULL, version BIGINT NOT NULL, body BYTEA NOT NULL,
    PRIMARY KEY (name, alias));
CREATE TABLE logged_models (rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT COLLATE "C" PRIMARY KEY, experiment BIGINT NOT NULL, run TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL, body BYTEA NOT NULL);
CREATE INDEX logged_models_by_experiment ON logged_models (experiment, created);
CREATE TABLE traces (rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT COLLATE "C" PRIMARY KEY, experiment BIGINT NOT NULL, at BIGINT NOT NULL, body BYTEA NOT NULL);
CREATE INDEX traces_by_experiment ON traces (experiment, at);
CREATE TABLE evaluation_datasets (rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT COLLATE "C" PRIMARY KEY, name TEXT COLLATE "C" NOT NULL, created BIGINT NOT NULL,
    body BYTEA NOT NULL);
CREATE TABLE evaluation_records (rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT COLLATE "C" PRIMARY KEY, dataset TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL, body BYTEA NOT NULL, UNIQUE (dataset, key));
CREATE INDEX evaluation_records_by_time ON evaluation_records (dataset, created);
CREATE TABLE webhooks (rowid BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT COLLATE "C" PRIMARY KEY, created BIGINT NOT NULL, body BYTEA NOT NULL);
