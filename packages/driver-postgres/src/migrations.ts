/** One step of the schema. Steps are never edited after release; a change is a new step. */
export type Migration = { readonly version: number; readonly name: string; readonly sql: string };

const FIRST = `
CREATE TABLE assay.index_state (
  only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  watermark   bigint  NOT NULL CHECK (watermark >= 0),
  generation  bigint  NOT NULL
);
INSERT INTO assay.index_state (watermark, generation) VALUES (0, 0);

CREATE TABLE assay.receipts (
  log_index         bigint PRIMARY KEY CHECK (log_index >= 0),
  receipt_id        bytea  NOT NULL CHECK (octet_length(receipt_id) = 16),
  execution_digest  bytea  NOT NULL CHECK (octet_length(execution_digest) = 32),
  service_digest    bytea  CHECK (octet_length(service_digest) = 32),
  kind              text   NOT NULL,
  owner             text,
  visibility        text   NOT NULL CHECK (visibility IN ('public', 'private')),
  grant_sha256      bytea  CHECK (octet_length(grant_sha256) = 32),
  model             text,
  manifest_digest   text,
  mode              text,
  issued_at_ms      bigint NOT NULL,
  refers_to         bytea  CHECK (octet_length(refers_to) = 32)
);
CREATE INDEX receipts_receipt_id ON assay.receipts (receipt_id);
CREATE INDEX receipts_execution_digest ON assay.receipts (execution_digest);
CREATE INDEX receipts_refers_to ON assay.receipts (refers_to, log_index) WHERE refers_to IS NOT NULL;
CREATE INDEX receipts_owner ON assay.receipts (owner, log_index) WHERE owner IS NOT NULL;
CREATE INDEX receipts_model ON assay.receipts (model, log_index) WHERE model IS NOT NULL;

CREATE TABLE assay.models (
  name             text COLLATE "C" NOT NULL,
  version          bigint NOT NULL CHECK (version >= 0),
  manifest_digest  text   NOT NULL,
  owner            text   NOT NULL,
  visibility       text   NOT NULL CHECK (visibility IN ('public', 'private')),
  status           text   NOT NULL CHECK (status IN ('released', 'deprecated')),
  size_bytes       bigint NOT NULL CHECK (size_bytes >= 0),
  released_at_ms   bigint NOT NULL,
  log_index        bigint NOT NULL CHECK (log_index >= 0),
  PRIMARY KEY (name, version)
);
CREATE TABLE assay.model_current (
  name       text COLLATE "C" PRIMARY KEY,
  version    bigint,
  log_index  bigint NOT NULL
);

CREATE TABLE assay.tokens (
  sha256         bytea  PRIMARY KEY CHECK (octet_length(sha256) = 32),
  owner          text   NOT NULL,
  visibility     text   NOT NULL DEFAULT 'private' CHECK (visibility = 'private'),
  scopes         text[] NOT NULL,
  expires_at_ms  bigint NOT NULL
);
CREATE INDEX tokens_expires_at ON assay.tokens (expires_at_ms);
`;

/** Every step, in order. Derived tables (`receipts`, `models`, …) can be emptied and rebuilt; `tokens` cannot. */
export const MIGRATIONS: readonly Migration[] = [{ version: 1, name: "receipts, models and tokens", sql: FIRST }];
