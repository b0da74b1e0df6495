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

const PAYMENTS = `
-- Where the ledger stands in the log, and the anchor's chain of batches.
CREATE TABLE assay.ledger_state (
  only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  watermark  bigint NOT NULL CHECK (watermark >= 0)
);
INSERT INTO assay.ledger_state (watermark) VALUES (0);

-- One row for each payment that was ever taken. Until it is due a row is a claim that may be lost: the log is the truth.
CREATE TABLE assay.payments (
  payment_id        bytea PRIMARY KEY CHECK (octet_length(payment_id) = 32),
  network           text NOT NULL,
  scheme            text NOT NULL CHECK (scheme IN ('exact', 'upto', 'batch-settlement')),
  payer             text NOT NULL,
  asset             text NOT NULL,
  pay_to            text NOT NULL,
  cap_atomic        numeric(78, 0) NOT NULL CHECK (cap_atomic >= 0),
  state             text NOT NULL CHECK (state IN ('taken', 'due', 'settling', 'settled', 'failed', 'dead')),
  fingerprint       bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
  idempotency_key   text,
  taken_by          text NOT NULL,
  taken_at_ms       bigint NOT NULL,
  -- Last second at which the signature can be used, Unix seconds.
  deadline_s        bigint NOT NULL,
  amount_atomic     numeric(78, 0) CHECK (amount_atomic >= 0 AND amount_atomic <= cap_atomic),
  settlement        text CHECK (settlement IN ('private', 'batch', 'individual')),
  channel_id        bytea CHECK (octet_length(channel_id) = 32),
  receipt_id        bytea CHECK (octet_length(receipt_id) = 16),
  log_index         bigint,
  execution_digest  bytea CHECK (octet_length(execution_digest) = 32),
  service_digest    bytea CHECK (octet_length(service_digest) = 32),
  instruction       bytea,
  job_id            text,
  attempts          int NOT NULL DEFAULT 0,
  tx_hash           bytea CHECK (octet_length(tx_hash) = 32),
  block_number      bigint,
  error_code        text,
  error_message     text,
  supplement_index  bigint,
  updated_at_ms     bigint NOT NULL,
  CHECK (state = 'taken' OR (amount_atomic IS NOT NULL AND log_index IS NOT NULL AND instruction IS NOT NULL))
);
CREATE UNIQUE INDEX payments_idempotency ON assay.payments (payer, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX payments_open ON assay.payments (state, deadline_s) WHERE state IN ('due', 'settling', 'failed');
CREATE INDEX payments_payer ON assay.payments (payer, state);
CREATE INDEX payments_log ON assay.payments (log_index) WHERE log_index IS NOT NULL;
CREATE INDEX payments_channel ON assay.payments (channel_id) WHERE channel_id IS NOT NULL;
CREATE INDEX payments_tx ON assay.payments (tx_hash) WHERE tx_hash IS NOT NULL;

-- Channels of cumulative vouchers. \`charged\` is the sum over receipts; \`reserved\` over requests under way.
CREATE TABLE assay.channels (
  channel_id             bytea PRIMARY KEY CHECK (octet_length(channel_id) = 32),
  network                text NOT NULL,
  payer                  text NOT NULL,
  token                  text NOT NULL,
  receiver               text NOT NULL,
  config                 jsonb NOT NULL,
  balance                numeric(78, 0) NOT NULL DEFAULT 0,
  total_claimed          numeric(78, 0) NOT NULL DEFAULT 0,
  charged                numeric(78, 0) NOT NULL DEFAULT 0,
  signed_max             numeric(78, 0) NOT NULL DEFAULT 0,
  signature              bytea,
  withdraw_requested_at  bigint NOT NULL DEFAULT 0,
  refund_nonce           numeric(78, 0) NOT NULL DEFAULT 0,
  observed_at_ms         bigint NOT NULL DEFAULT 0,
  updated_at_ms          bigint NOT NULL
);
CREATE INDEX channels_payer ON assay.channels (payer);

-- Write-ahead journal of transactions: a row is durable before its bytes are sent.
CREATE TABLE assay.chain_transactions (
  job_id         text NOT NULL,
  attempt        int NOT NULL,
  network        text NOT NULL,
  sender         text NOT NULL,
  nonce          bigint NOT NULL,
  tx_hash        bytea NOT NULL CHECK (octet_length(tx_hash) = 32),
  raw            bytea NOT NULL,
  max_fee        numeric(78, 0) NOT NULL,
  state          text NOT NULL CHECK (state IN ('signed', 'sent', 'mined', 'final', 'replaced', 'reverted', 'dropped')),
  block_number   bigint,
  block_hash     bytea,
  gas_used       bigint,
  created_at_ms  bigint NOT NULL,
  updated_at_ms  bigint NOT NULL,
  PRIMARY KEY (network, sender, nonce, attempt)
);
CREATE INDEX chain_transactions_job ON assay.chain_transactions (job_id);
CREATE INDEX chain_transactions_open ON assay.chain_transactions (state) WHERE state IN ('signed', 'sent', 'mined');

-- Batches of receipts whose roots are anchored, in order; leaves lie in the blob store.
CREATE TABLE assay.anchor_batches (
  network        text NOT NULL,
  seq            bigint NOT NULL CHECK (seq >= 0),
  first_leaf     bigint NOT NULL,
  leaf_count     bigint NOT NULL CHECK (leaf_count >= 0),
  root           bytea NOT NULL CHECK (octet_length(root) = 32),
  log_size       bigint NOT NULL,
  log_root       bytea NOT NULL CHECK (octet_length(log_root) = 32),
  blob_sha256    bytea NOT NULL CHECK (octet_length(blob_sha256) = 32),
  from_index     bigint NOT NULL,
  to_index       bigint NOT NULL,
  state          text NOT NULL CHECK (state IN ('built', 'posting', 'posted', 'failed')),
  job_id         text,
  tx_hash        bytea,
  block_number   bigint,
  error_code     text,
  created_at_ms  bigint NOT NULL,
  updated_at_ms  bigint NOT NULL,
  PRIMARY KEY (network, seq)
);
`;

const CLAIMS = `
-- What a payment moves into its channel besides its voucher; absent for everything but deposits.
ALTER TABLE assay.payments ADD COLUMN deposit_atomic numeric(78, 0) CHECK (deposit_atomic >= 0);
-- What a deposit spends once, its own nonce: one deposit does not come into the accounts with two vouchers.
ALTER TABLE assay.payments ADD COLUMN deposit_id bytea CHECK (octet_length(deposit_id) = 32);
CREATE UNIQUE INDEX payments_deposit ON assay.payments (deposit_id) WHERE deposit_id IS NOT NULL;

-- Takes a voucher in one round trip: the channel's row is locked, what is under way on it is summed behind the lock (each
-- statement here has a snapshot of its own), and the claim is written, or not. \`own_ids\` are payments of the caller whose
-- receipts are durable and not yet in these rows: they count with what they were charged, and not with their caps.
CREATE FUNCTION assay.take_voucher(
  in_payment bytea, in_channel bytea, in_network text, in_payer text, in_asset text, in_pay_to text, in_cap numeric,
  in_max numeric, in_deposit numeric, in_deposit_id bytea, in_fingerprint bytea, in_key text, in_taken_by text, in_now_ms bigint,
  in_deadline_s bigint, in_settlement text, own_ids bytea[], own_amounts numeric[]
) RETURNS TABLE (
  outcome text, charged numeric, reserved numeric, balance numeric, under_way bigint
) LANGUAGE plpgsql AS $take$
DECLARE
  c assay.channels%ROWTYPE;
  settled_sum numeric;
  deposit_sum numeric;
BEGIN
  -- The claim is a lock: a crash that takes it leaves no receipt either.
  PERFORM set_config('synchronous_commit', 'off', true);
  SELECT * INTO c FROM assay.channels WHERE channel_id = in_channel FOR UPDATE;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'missing'::text, 0::numeric, 0::numeric, 0::numeric, 0::bigint;
    RETURN;
  END IF;
  SELECT COALESCE(SUM(o.amount), 0), COALESCE(SUM(p.cap_atomic) FILTER (WHERE o.amount IS NULL), 0),
      COALESCE(SUM(p.deposit_atomic) FILTER (WHERE o.amount IS NOT NULL), 0), COUNT(*) FILTER (WHERE o.amount IS NULL)
    INTO settled_sum, reserved, deposit_sum, under_way
    FROM assay.payments p LEFT JOIN unnest(own_ids, own_amounts) AS o(id, amount) ON o.id = p.payment_id
    WHERE p.channel_id = in_channel AND p.state = 'taken';
  charged := c.charged + settled_sum;
  balance := c.balance + deposit_sum;
  IF EXISTS (SELECT 1 FROM assay.payments p WHERE p.payment_id = in_payment
      OR (p.payer = in_payer AND p.idempotency_key = in_key)) THEN
    outcome := 'known';
  ELSIF EXISTS (SELECT 1 FROM assay.payments p WHERE p.deposit_id = in_deposit_id) THEN
    outcome := 'deposited';
  ELSIF in_max < charged + reserved + in_cap THEN
    outcome := 'low';
  ELSIF in_max > balance + COALESCE(in_deposit, 0) THEN
    outcome := 'balance';
  ELSE
    INSERT INTO assay.payments (payment_id, network, scheme, payer, asset, pay_to, cap_atomic, state, fingerprint,
        idempotency_key, taken_by, taken_at_ms, deadline_s, settlement, channel_id, deposit_atomic, deposit_id,
        updated_at_ms)
      VALUES (in_payment, in_network, 'batch-settlement', in_payer, in_asset, in_pay_to, in_cap, 'taken', in_fingerprint,
        in_key, in_taken_by, in_now_ms, in_deadline_s, in_settlement, in_channel, in_deposit, in_deposit_id,
        in_now_ms)
      ON CONFLICT DO NOTHING;
    outcome := CASE WHEN FOUND THEN 'taken' ELSE 'known' END;
  END IF;
  RETURN NEXT;
END
$take$;
`;

const ANCHORS = `
-- Entries whole, as they were signed: one that was signed is never made differently again, and a chain that lost it gets
-- the same one. \`individual\` batches hold one receipt, which no other batch holds.
ALTER TABLE assay.anchor_batches
  ADD COLUMN kind       text  NOT NULL CHECK (kind IN ('batch', 'individual')),
  ADD COLUMN submitter  text  NOT NULL,
  ADD COLUMN prev       bytea NOT NULL CHECK (octet_length(prev) = 32),
  ADD COLUMN entry_hash bytea NOT NULL UNIQUE CHECK (octet_length(entry_hash) = 32),
  ADD COLUMN signature  bytea NOT NULL CHECK (octet_length(signature) = 65),
  ADD COLUMN attempts   int   NOT NULL DEFAULT 0;
CREATE INDEX anchor_batches_range ON assay.anchor_batches (network, from_index, to_index);
`;

const FACILITATOR = `
-- What was settled for other servers. A row without a result is under way; the chain's nonces say what really happened, so
-- old rows can go.
CREATE TABLE assay.facilitator_settlements (
  key            text   PRIMARY KEY,
  caller         text   NOT NULL,
  digest         text   NOT NULL,
  network        text   NOT NULL,
  sender         text   NOT NULL,
  job_id         text   NOT NULL UNIQUE,
  result         text,
  created_at_ms  bigint NOT NULL
);
CREATE INDEX facilitator_settlements_age ON assay.facilitator_settlements (created_at_ms);
`;

const SETTLED = `
-- What the settler asks for several times a second, of a table that only grows.
CREATE INDEX payments_job ON assay.payments (job_id) WHERE state = 'settling';
CREATE INDEX payments_unstated ON assay.payments (updated_at_ms)
  WHERE state = 'settled' AND supplement_index IS NULL AND tx_hash IS NOT NULL;
CREATE INDEX payments_block ON assay.payments (network, block_number) WHERE state = 'settled' AND tx_hash IS NOT NULL;
`;

const TAKE_PAYMENT = `
-- Claims a payment that leaves its payer's account, and says what that account owes already and whether a payment of it
-- failed since \`in_since_ms\`. \`authorized\`: only \`upto\` goes through Permit2. A function, because its plans are made once
-- for each connection, and making them takes longer than carrying them out. Nothing comes back for a payment, or a payer's
-- idempotency key, that is known.
CREATE FUNCTION assay.take_payment(
  in_payment bytea, in_network text, in_scheme text, in_payer text, in_asset text, in_pay_to text, in_cap numeric,
  in_fingerprint bytea, in_key text, in_taken_by text, in_now_ms bigint, in_deadline_s bigint, in_settlement text,
  in_since_ms bigint, authorized boolean
) RETURNS TABLE (unsettled numeric, unsettled_permit2 numeric, risked numeric, failed bytea) LANGUAGE plpgsql AS $take$
BEGIN
  -- The claim is a lock: a crash that takes it leaves no receipt either.
  PERFORM set_config('synchronous_commit', 'off', true);
  INSERT INTO assay.payments (payment_id, network, scheme, payer, asset, pay_to, cap_atomic, state, fingerprint,
      idempotency_key, taken_by, taken_at_ms, deadline_s, settlement, updated_at_ms)
    VALUES (in_payment, in_network, in_scheme, in_payer, in_asset, in_pay_to, in_cap, 'taken', in_fingerprint, in_key,
      in_taken_by, in_now_ms, in_deadline_s, in_settlement, in_now_ms)
    ON CONFLICT DO NOTHING;
  IF FOUND THEN
    RETURN QUERY SELECT * FROM assay.payer_standing(in_payment, in_network, in_payer, in_asset, in_since_ms, authorized);
  END IF;
END
$take$;

-- What an account owes in one token, a payment aside: what is still to leave it (a voucher takes nothing from it, a deposit
-- all of itself), what of that goes through Permit2, and what the gateway would lose if nothing of it arrived.
CREATE FUNCTION assay.payer_standing(
  but_payment bytea, in_network text, in_payer text, in_asset text, in_since_ms bigint, authorized boolean
) RETURNS TABLE (unsettled numeric, unsettled_permit2 numeric, risked numeric, failed bytea) LANGUAGE plpgsql AS $standing$
BEGIN
  SELECT COALESCE(SUM(u.leaves), 0), COALESCE(SUM(u.leaves) FILTER (WHERE u.scheme = 'upto' OR NOT authorized), 0),
      COALESCE(SUM(u.charged) FILTER (WHERE u.channel_id IS NULL OR u.deposit_atomic IS NOT NULL), 0)
    INTO unsettled, unsettled_permit2, risked
    FROM (
      SELECT p.scheme, p.channel_id, p.deposit_atomic, COALESCE(p.amount_atomic, p.cap_atomic) AS charged,
        CASE WHEN p.channel_id IS NULL THEN COALESCE(p.amount_atomic, p.cap_atomic) ELSE COALESCE(p.deposit_atomic, 0) END
          AS leaves
      FROM assay.payments p
      WHERE p.payer = in_payer AND p.state IN ('taken', 'due', 'settling', 'failed') AND p.asset = in_asset
        AND p.network = in_network AND p.payment_id <> but_payment
    ) AS u;
  SELECT p.payment_id INTO failed FROM assay.payments p
    WHERE p.payer = in_payer AND p.state IN ('failed', 'dead') AND p.updated_at_ms > in_since_ms LIMIT 1;
  RETURN NEXT;
END
$standing$;
`;

const TAKEN = `
-- What is under way on a channel is summed for each voucher: among all that was ever charged on it that is very little.
CREATE INDEX payments_channel_taken ON assay.payments (channel_id) WHERE state = 'taken' AND channel_id IS NOT NULL;
`;

const OVERTAKEN = `
-- A voucher that was overtaken by a higher one of its payer is as good as that one: the payer promised the sum already.
-- \`in_signed\` is the highest one that the caller knows of; \`signed_max\` and \`signature\` are those of the row.
DROP FUNCTION assay.take_voucher(bytea, bytea, text, text, text, text, numeric, numeric, numeric, bytea, bytea, text, text,
  bigint, bigint, text, bytea[], numeric[]);
CREATE FUNCTION assay.take_voucher(
  in_payment bytea, in_channel bytea, in_network text, in_payer text, in_asset text, in_pay_to text, in_cap numeric,
  in_max numeric, in_signed numeric, in_deposit numeric, in_deposit_id bytea, in_fingerprint bytea, in_key text,
  in_taken_by text, in_now_ms bigint, in_deadline_s bigint, in_settlement text, own_ids bytea[], own_amounts numeric[]
) RETURNS TABLE (
  outcome text, charged numeric, reserved numeric, balance numeric, under_way bigint, signed_max numeric, signature bytea
) LANGUAGE plpgsql AS $take$
DECLARE
  c assay.channels%ROWTYPE;
  settled_sum numeric;
  deposit_sum numeric;
  needed numeric;
BEGIN
  -- The claim is a lock: a crash that takes it leaves no receipt either.
  PERFORM set_config('synchronous_commit', 'off', true);
  SELECT * INTO c FROM assay.channels WHERE channel_id = in_channel FOR UPDATE;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'missing'::text, 0::numeric, 0::numeric, 0::numeric, 0::bigint, 0::numeric, NULL::bytea;
    RETURN;
  END IF;
  SELECT COALESCE(SUM(o.amount), 0), COALESCE(SUM(p.cap_atomic) FILTER (WHERE o.amount IS NULL), 0),
      COALESCE(SUM(p.deposit_atomic) FILTER (WHERE o.amount IS NOT NULL), 0), COUNT(*) FILTER (WHERE o.amount IS NULL)
    INTO settled_sum, reserved, deposit_sum, under_way
    FROM assay.payments p LEFT JOIN unnest(own_ids, own_amounts) AS o(id, amount) ON o.id = p.payment_id
    WHERE p.channel_id = in_channel AND p.state = 'taken';
  charged := c.charged + settled_sum;
  balance := c.balance + deposit_sum;
  signed_max := c.signed_max;
  signature := c.signature;
  needed := charged + reserved + in_cap;
  IF EXISTS (SELECT 1 FROM assay.payments p WHERE p.payment_id = in_payment
      OR (p.payer = in_payer AND p.idempotency_key = in_key)) THEN
    outcome := 'known';
  ELSIF EXISTS (SELECT 1 FROM assay.payments p WHERE p.deposit_id = in_deposit_id) THEN
    outcome := 'deposited';
  ELSIF GREATEST(in_max, in_signed, c.signed_max) < needed THEN
    outcome := 'low';
  ELSIF GREATEST(in_max, needed) > balance + COALESCE(in_deposit, 0) THEN
    outcome := 'balance';
  ELSE
    INSERT INTO assay.payments (payment_id, network, scheme, payer, asset, pay_to, cap_atomic, state, fingerprint,
        idempotency_key, taken_by, taken_at_ms, deadline_s, settlement, channel_id, deposit_atomic, deposit_id,
        updated_at_ms)
      VALUES (in_payment, in_network, 'batch-settlement', in_payer, in_asset, in_pay_to, in_cap, 'taken', in_fingerprint,
        in_key, in_taken_by, in_now_ms, in_deadline_s, in_settlement, in_channel, in_deposit, in_deposit_id,
        in_now_ms)
      ON CONFLICT DO NOTHING;
    outcome := CASE WHEN FOUND THEN 'taken' ELSE 'known' END;
  END IF;
  RETURN NEXT;
END
$take$;
`;

const RESOURCES = `
-- What takes payments that were settled for other servers, as its server described it. Each belongs to whoever had a payment
-- for it settled first.
CREATE TABLE assay.facilitator_resources (
  url            text   PRIMARY KEY,
  caller         text   NOT NULL,
  entry          text   NOT NULL,
  updated_at_ms  bigint NOT NULL,
  seq            bigint NOT NULL GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX facilitator_resources_age ON assay.facilitator_resources (updated_at_ms, seq);
`;

/** Every step, in order. Derived tables (`receipts`, `models`, …) can be emptied and rebuilt; `tokens` cannot. */
export const MIGRATIONS: readonly Migration[] = [
  { version: 1, name: "receipts, models and tokens", sql: FIRST },
  { version: 2, name: "payments, channels, transactions and batches", sql: PAYMENTS },
  { version: 3, name: "deposits, and claims of vouchers", sql: CLAIMS },
  { version: 4, name: "anchored entries as they were signed", sql: ANCHORS },
  { version: 5, name: "settlements for others", sql: FACILITATOR },
  { version: 6, name: "indexes for settling", sql: SETTLED },
  { version: 7, name: "claims of payments", sql: TAKE_PAYMENT },
  { version: 8, name: "vouchers under way", sql: TAKEN },
  { version: 9, name: "vouchers that were overtaken", sql: OVERTAKEN },
  { version: 10, name: "resources that others are paid for", sql: RESOURCES },
];
