CREATE TABLE experiments (id BIGINT PRIMARY KEY, name TEXT COLLATE "C" NOT NULL UNIQUE, artifacts TEXT COLLATE "C" NOT NULL,
    stage TEXT COLLATE "C" NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL);
CREATE TABLE experiment_tags (experiment BIGINT NOT NULL, key TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (experiment, key));
CREATE TABLE runs (number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT COLLATE "C" NOT NULL UNIQUE, experiment BIGINT NOT NULL, name TEXT COLLATE "C" NOT NULL,
    user_name TEXT COLLATE "C" NOT NULL, status TEXT COLLATE "C" NOT NULL, stage TEXT COLLATE "C" NOT NULL, started BIGINT NOT NULL, ended BIGINT,
    artifacts TEXT COLLATE "C" NOT NULL, deleted BIGINT);
CREATE INDEX runs_by_start ON runs (experiment, started DESC, id);
CREATE INDEX runs_by_deletion ON runs (deleted) WHERE deleted IS NOT NULL;
CREATE TABLE params (run BIGINT NOT NULL, key TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL, experiment BIGINT NOT NULL,
    PRIMARY KEY (run, key));
CREATE INDEX params_by_value ON params (experiment, key, substr(value, 1, 64));
CREATE TABLE tags (run BIGINT NOT NULL, key TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL, experiment BIGINT NOT NULL,
    PRIMARY KEY (run, key));
CREATE INDEX tags_by_value ON tags (experiment, key, substr(value, 1, 64));
CREATE TABLE latest (run BIGINT NOT NULL, key TEXT COLLATE "C" NOT NULL, value DOUBLE PRECISION NOT NULL, nan BIGINT NOT NULL,
    time BIGINT NOT NULL, step BIGINT NOT NULL, experiment BIGINT NOT NULL,
    PRIMARY KEY (run, key));
CREATE INDEX latest_by_value ON latest (experiment, key, nan, value);
CREATE TABLE metrics (run BIGINT NOT NULL, key TEXT COLLATE "C" NOT NULL, time BIGINT NOT NULL, step BIGINT NOT NULL,
    value DOUBLE PRECISION NOT NULL, nan BIGINT NOT NULL, PRIMARY KEY (run, key, time, step, value, nan));
CREATE TABLE model_metrics (model TEXT COLLATE "C" NOT NULL, run TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL, time BIGINT NOT NULL,
    step BIGINT NOT NULL, value DOUBLE PRECISION NOT NULL, nan BIGINT NOT NULL, dataset_name TEXT COLLATE "C" NOT NULL,
    dataset_digest TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (model, key, time, step, value, nan, run, dataset_name, dataset_digest));
CREATE TABLE datasets (number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, experiment BIGINT NOT NULL, name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL, source_type TEXT COLLATE "C" NOT NULL, source TEXT COLLATE "C" NOT NULL, schema TEXT COLLATE "C" NOT NULL, profile TEXT COLLATE "C" NOT NULL,
    UNIQUE (experiment, name, digest));
CREATE TABLE inputs (run BIGINT NOT NULL, dataset BIGINT NOT NULL, context TEXT COLLATE "C" NOT NULL, tags TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run, dataset));
CREATE INDEX inputs_by_dataset ON inputs (dataset, context);
CREATE TABLE model_links (run BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL, model TEXT COLLATE "C" NOT NULL, step BIGINT NOT NULL,
    PRIMARY KEY (run, kind, model));
CREATE TABLE artifacts (path TEXT COLLATE "C" PRIMARY KEY, digest TEXT COLLATE "C" NOT NULL, size BIGINT NOT NULL,
    created BIGINT NOT NULL);
CREATE INDEX artifacts_by_digest ON artifacts (digest);
INSERT INTO experiments (id, name, artifacts, stage, created, updated)
    VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', 0, 0);
