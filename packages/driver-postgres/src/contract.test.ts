import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ModelRow, ReceiptRow } from "@assay/protocol";
import { PGlite } from "@electric-sql/pglite";
import * as fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { MAX_ANSWER_ROWS, MAX_BATCH_ROWS } from "./index-store.ts";
import {
  connectDatabase,
  createIndexStore,
  createSecretStore,
  databaseFromPglite,
  migrateDatabase,
  startEmbeddedPostgres,
} from "./index.ts";
import type { Database } from "./index.ts";
import { MIGRATIONS } from "./migrations.ts";
import { MAX_TEXT_LENGTH } from "./rows.ts";
import { MAX_SCOPES } from "./secret-store.ts";

type Backend = {
  /** Connects to one database; each call gives a connection of its own where the backend has several. */
  readonly connect: () => Database;
  readonly close: () => Promise<void>;
};

async function openPglite(): Promise<Backend> {
  const lite = await PGlite.create();
  return { connect: () => databaseFromPglite(lite), close: () => Promise.resolve() };
}

async function openEmbedded(): Promise<Backend> {
  const root = mkdtempSync(join(tmpdir(), "assay-contract-"));
  const server = await startEmbeddedPostgres({ directory: join(root, "db") });
  return {
    connect: () => connectDatabase({ url: server.url }),
    async close() {
      await server.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

async function openUrl(url: string): Promise<Backend> {
  const name = `assay_test_${randomBytes(6).toString("hex")}`;
  const admin = new Client({ connectionString: url });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  const own = url.replace(/^(postgres(?:ql)?:\/\/[^/?]*)(?:\/[^?]*)?/, `$1/${name}`);
  return {
    connect: () => connectDatabase({ url: own }),
    async close() {
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    },
  };
}

const given = process.env["ASSAY_TEST_DATABASE_URL"];
const backends: ReadonlyArray<readonly [string, boolean, () => Promise<Backend>]> = [
  ["PGlite", false, openPglite],
  ["embedded PostgreSQL", true, openEmbedded],
  ...(given === undefined ? [] : [["PostgreSQL by URL", true, () => openUrl(given)] as const]),
];

const hex = (text: string, digits = 64): string => createHash("sha256").update(text).digest("hex").slice(0, digits);
const code = (value: string): object => expect.objectContaining({ code: value }) as object;

function receipt(logIndex: number, changes: Partial<ReceiptRow> = {}): ReceiptRow {
  return {
    logIndex,
    receiptId: hex(`id ${logIndex}`, 32),
    executionDigest: hex(`execution ${logIndex}`),
    serviceDigest: null,
    kind: "execution",
    owner: null,
    visibility: "private",
    grantSha256: null,
    model: null,
    manifestDigest: null,
    mode: null,
    issuedAtMs: 1_790_000_000_000 + logIndex,
    refersTo: null,
    ...changes,
  };
}

function model(logIndex: number, changes: Partial<ModelRow> = {}): ModelRow {
  return {
    name: "acme/net",
    version: 1,
    manifestDigest: hex(`manifest ${changes.version ?? 1}`),
    owner: "acme",
    visibility: "public",
    status: "released",
    current: true,
    sizeBytes: 2 ** 40,
    releasedAtMs: 1_790_000_000_000,
    logIndex,
    ...changes,
  };
}

describe.each(backends)("%s", (_name, many, open) => {
  let backend: Backend;
  let database: Database;
  beforeAll(async () => {
    backend = await open();
    database = backend.connect();
    await migrateDatabase(database);
  });
  afterAll(async () => {
    await database.close();
    await backend.close();
  });
  beforeEach(async () => {
    await createIndexStore(database).reset();
    await database.query("DELETE FROM assay.tokens");
  });

  describe("receipts", () => {
    it("gives back every field as it was", async () => {
      const store = createIndexStore(database);
      const texts = fc.string({ unit: "binary", minLength: 1, maxLength: 30 }).filter((text) => !text.includes("\0"));
      const nullable = fc.option(texts, { nil: null });
      const digests = fc.option(
        texts.map((text) => hex(text)),
        { nil: null },
      );
      const row = fc.record({
        serviceDigest: digests,
        kind: texts,
        owner: nullable,
        visibility: fc.constantFrom("public" as const, "private" as const),
        grantSha256: digests,
        model: nullable,
        manifestDigest: nullable,
        mode: nullable,
        issuedAtMs: fc.maxSafeNat(),
        refersTo: digests,
      });
      let next = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 8 }), async (changes) => {
          const rows = changes.map((change) => receipt(next++, change));
          await store.index({ receipts: rows, models: [], watermark: next });
          expect(await store.receipts({ limit: rows.length })).toEqual([...rows].reverse());
        }),
        { numRuns: 25 },
      );
    });

    it("keeps text that looks like array syntax, NULL or a bytea", async () => {
      const store = createIndexStore(database);
      const hard = ["NULL", "null", '"', "\\", "{a,b}", " ", ",", "\\x00", "'; DROP TABLE assay.receipts; --", "é\n"];
      const rows = hard.map((owner, i) => receipt(i, { owner, model: owner }));
      await store.index({ receipts: rows, models: [], watermark: hard.length });
      for (const [i, owner] of hard.entries())
        expect(await store.receipts({ owner, model: owner, limit: 10 })).toEqual([rows[i]]);
    });

    it("finds by id and by digest, the statement before its supplements", async () => {
      const store = createIndexStore(database);
      const target = receipt(5, { executionDigest: hex("shared") });
      const early = receipt(3, { executionDigest: hex("shared"), kind: "supplement", refersTo: hex("shared") });
      const late = receipt(9, { kind: "supplement", refersTo: hex("shared") });
      await store.index({ receipts: [early, target, late, receipt(6)], models: [], watermark: 10 });
      expect(await store.receipt(target.receiptId)).toEqual(target);
      expect(await store.receiptByDigest(hex("shared"))).toEqual(target);
      expect(await store.supplements(hex("shared"))).toEqual([early, late]);
    });

    it("answers nothing for an id that is unknown or cannot be one", async () => {
      const store = createIndexStore(database);
      for (const id of [hex("x", 32), "", "\0", "'", hex("x", 32).toUpperCase(), hex("x")])
        expect(await store.receipt(id)).toBeUndefined();
      for (const id of [hex("x"), "", hex("x", 63), "z".repeat(64)]) {
        expect(await store.receiptByDigest(id)).toBeUndefined();
        expect(await store.supplements(id)).toEqual([]);
      }
    });

    it("pages backwards by owner and model", async () => {
      const store = createIndexStore(database);
      const rows = Array.from({ length: 20 }, (_, i) => receipt(i, { owner: `o${i % 2}`, model: `m${i % 3}` }));
      await store.index({ receipts: rows, models: [], watermark: 20 });
      const indexes = async (filter: Parameters<typeof store.receipts>[0]): Promise<number[]> =>
        (await store.receipts(filter)).map((row) => row.logIndex);
      expect(await indexes({ owner: "o1", limit: 3 })).toEqual([19, 17, 15]);
      expect(await indexes({ owner: "o1", before: 15, limit: 3 })).toEqual([13, 11, 9]);
      expect(await indexes({ owner: "o0", model: "m0", limit: 10 })).toEqual([18, 12, 6, 0]);
      expect(await indexes({ owner: "o2", limit: 10 })).toEqual([]);
      expect(await indexes({ before: 0, limit: 10 })).toEqual([]);
    });

    it.each([0, -1, 1.5, Number.NaN, MAX_ANSWER_ROWS + 1])("refuses a limit of %d", async (limit) => {
      const store = createIndexStore(database);
      await expect(store.receipts({ limit })).rejects.toEqual(code("index_limit_invalid"));
      await expect(store.models({ limit })).rejects.toEqual(code("index_limit_invalid"));
    });

    it.each([
      ["a short id", receipt(0, { receiptId: "ab" })],
      ["an upper-case digest", receipt(0, { executionDigest: hex("x").toUpperCase() })],
      ["a digest with a line end", receipt(0, { refersTo: `${hex("x", 63)}\n` })],
      ["an empty owner", receipt(0, { owner: "" })],
      ["a text that is too long", receipt(0, { model: "m".repeat(MAX_TEXT_LENGTH + 1) })],
      ["a NUL", receipt(0, { owner: "a\0b" })],
      ["half a character", receipt(0, { owner: "\ud800" })],
      ["a fractional time", receipt(0, { issuedAtMs: 0.5 })],
      ["a negative index", receipt(-1)],
      ["an index at the watermark", receipt(1)],
      ["an unknown visibility", receipt(0, { visibility: "shared" as "public" })],
    ])("refuses a row with %s and stores none of its batch", async (_what, bad) => {
      const store = createIndexStore(database);
      const batch = { receipts: [receipt(0), bad], models: [], watermark: 1 };
      await expect(store.index(batch)).rejects.toEqual(code("index_row_invalid"));
      expect(await store.receipts({ limit: 10 })).toEqual([]);
      expect(await store.watermark()).toBe(0);
    });

    it("accepts the longest text and the largest batch, and refuses one more", async () => {
      const store = createIndexStore(database);
      const rows = Array.from({ length: MAX_BATCH_ROWS }, (_, i) => receipt(i));
      rows[0] = receipt(0, { model: "m".repeat(MAX_TEXT_LENGTH) });
      await store.index({ receipts: rows, models: [], watermark: MAX_BATCH_ROWS });
      expect(await store.receipts({ limit: MAX_ANSWER_ROWS })).toHaveLength(MAX_ANSWER_ROWS);
      const more = { receipts: rows, models: [model(1)], watermark: MAX_BATCH_ROWS };
      await expect(store.index(more)).rejects.toEqual(code("index_batch_too_large"));
    });
  });

  describe("watermark", () => {
    it("moves with the rows and never back, whichever order batches come in", async () => {
      const store = createIndexStore(database);
      expect(await store.watermark()).toBe(0);
      await store.index({ receipts: [receipt(0)], models: [], watermark: 10 });
      await store.index({ receipts: [receipt(0, { owner: "changed" })], models: [], watermark: 5 });
      expect(await store.watermark()).toBe(10);
      expect(await store.receipts({ limit: 10 })).toEqual([receipt(0)]);
    });

    it("stays where two indexers that race have brought it", async () => {
      const stores = Array.from({ length: 4 }, () => createIndexStore(database));
      await Promise.all(
        stores.flatMap((store, s) =>
          Array.from({ length: 10 }, (_, i) => i * 4 + ((s + i) % 4)).map((at) =>
            store.index({ receipts: [receipt(at)], models: [], watermark: at + 1 }),
          ),
        ),
      );
      expect(await createIndexStore(database).watermark()).toBe(40);
      expect(await createIndexStore(database).receipts({ limit: 100 })).toHaveLength(40);
    });

    it("refuses an indexer that has not seen a reset", async () => {
      const indexer = createIndexStore(database);
      await indexer.index({ receipts: [receipt(0)], models: [], watermark: 1 });
      await createIndexStore(database).reset();
      const late = { receipts: [receipt(1)], models: [], watermark: 2 };
      await expect(indexer.index(late)).rejects.toEqual(code("index_fenced"));
      expect(await indexer.watermark()).toBe(0);
      expect(await indexer.receipts({ limit: 10 })).toEqual([]);
      await indexer.index({ receipts: [receipt(0), receipt(1)], models: [], watermark: 2 });
      expect(await indexer.watermark()).toBe(2);
    });
  });

  describe("models", () => {
    it("resolves a bare name to the current version through release, rollback and withdrawal", async () => {
      const store = createIndexStore(database);
      const put = (...models: ModelRow[]): Promise<void> => store.index({ receipts: [], models, watermark: 100 });
      await put(model(1), model(2, { version: 2 }));
      expect(await store.model("acme/net")).toEqual(model(2, { version: 2 }));
      expect(await store.model("acme/net", 1)).toEqual(model(1, { current: false }));
      await put(model(3, { version: 1 }));
      expect((await store.model("acme/net"))?.version).toBe(1);
      expect((await store.versions("acme/net")).map((row) => [row.version, row.current])).toEqual([
        [2, false],
        [1, true],
      ]);
      await put(model(4, { version: 1, current: false, status: "deprecated" }));
      expect(await store.model("acme/net")).toBeUndefined();
      expect((await store.model("acme/net", 1))?.status).toBe("deprecated");
      expect(await store.models()).toEqual([]);
    });

    it("ends in the same state when a stretch of the log is indexed again or in other batches", async () => {
      const history = fc.array(
        fc.record({
          name: fc.constantFrom("a/x", "a/y"),
          version: fc.integer({ min: 1, max: 3 }),
          current: fc.boolean(),
          status: fc.constantFrom("released" as const, "deprecated" as const),
        }),
        { minLength: 1, maxLength: 12 },
      );
      await fc.assert(
        fc.asyncProperty(history, fc.nat(12), fc.nat(12), async (changes, cut, end) => {
          const rows = changes.map((change, i) => model(i, change));
          const store = createIndexStore(database);
          const put = (models: readonly ModelRow[]): Promise<void> =>
            store.index({ receipts: [], models, watermark: rows.length });
          await store.reset();
          await put(rows);
          const whole = await store.fingerprint();
          await store.reset();
          await put(rows.slice(0, cut));
          await put(rows.slice(cut));
          // An older stretch, whose rows must not win over what came after them.
          await put(rows.slice(Math.min(cut, end) >> 1, Math.max(cut, end)));
          expect(await store.fingerprint()).toBe(whole);
        }),
        { numRuns: 20 },
      );
    });

    it("lists by prefix in byte order, taking no character for a wildcard", async () => {
      const store = createIndexStore(database);
      const names = ["a_b/x", "aXb/x", "b/%", "B/x", "é/x"];
      await store.index({ receipts: [], models: names.map((name, i) => model(i, { name })), watermark: 10 });
      const listed = async (prefix?: string): Promise<string[]> =>
        (await store.models(prefix === undefined ? {} : { prefix })).map((row) => row.name);
      expect(await listed()).toEqual(["B/x", "aXb/x", "a_b/x", "b/%", "é/x"]);
      expect(await listed("a_")).toEqual(["a_b/x"]);
      expect(await listed("b/%")).toEqual(["b/%"]);
      expect(await listed("\0")).toEqual([]);
      expect(await store.models({ limit: 2 })).toHaveLength(2);
    });

    it("answers nothing for what is not there", async () => {
      const store = createIndexStore(database);
      await store.index({ receipts: [], models: [model(1)], watermark: 2 });
      for (const [name, version] of [
        ["acme/net", 2],
        ["acme/net", 1.5],
        ["acme", 1],
        ["", 1],
        ["a\0", 1],
      ] as const)
        expect(await store.model(name, version)).toBeUndefined();
      expect(await store.versions("acme")).toEqual([]);
    });

    it.each([
      ["no name", model(0, { name: "" })],
      ["an unknown status", model(0, { status: "lost" as "released" })],
      ["a negative size", model(0, { sizeBytes: -1 })],
      ["an index at the watermark", model(1)],
    ])("refuses a row with %s", async (_what, bad) => {
      const store = createIndexStore(database);
      const batch = { receipts: [], models: [bad], watermark: 1 };
      await expect(store.index(batch)).rejects.toEqual(code("index_row_invalid"));
    });
  });

  describe("fingerprint", () => {
    it("is equal after reset and rebuild in other batches, and differs for every change", async () => {
      const store = createIndexStore(database);
      const rows = Array.from({ length: 50 }, (_, i) => receipt(i, { owner: `o${i}` }));
      const batch = { receipts: rows, models: [model(7)], watermark: 50 };
      const empty = await store.fingerprint();
      await store.index(batch);
      const full = await store.fingerprint();
      await store.reset();
      expect(await store.fingerprint()).toBe(empty);
      await store.index({ ...batch, receipts: rows.slice(0, 20), watermark: 20 });
      const part = await store.fingerprint();
      await store.index({ ...batch, models: [], receipts: rows.slice(15).reverse() });
      expect(await store.fingerprint()).toBe(full);
      const seen = new Set([empty, full, part]);
      for (const sql of [
        "UPDATE assay.receipts SET owner = 'x' WHERE log_index = 49",
        "UPDATE assay.receipts SET grant_sha256 = execution_digest WHERE log_index = 0",
        "UPDATE assay.models SET status = 'deprecated'",
        "UPDATE assay.model_current SET version = NULL",
        "DELETE FROM assay.receipts WHERE log_index = 30",
        "UPDATE assay.index_state SET watermark = 51",
      ]) {
        await database.exec(sql);
        seen.add(await store.fingerprint());
      }
      expect(seen.size).toBe(9);
    });
  });

  describe("tokens", () => {
    const token = { sha256: hex("token"), owner: "acme", scopes: ["read", 'od"d,\\'], expiresAtMs: 1_800_000_000_000 };

    it("keeps a token through a reset of the index until it is revoked", async () => {
      const secrets = createSecretStore(database);
      await secrets.putToken(token);
      await createIndexStore(database).reset();
      const { sha256, ...rest } = token;
      expect(await secrets.token(sha256)).toEqual(rest);
      await secrets.putToken({ ...token, scopes: [] });
      expect((await secrets.token(sha256))?.scopes).toEqual([]);
      await secrets.revokeToken(sha256);
      await secrets.revokeToken(sha256);
      expect(await secrets.token(sha256)).toBeUndefined();
    });

    it("gives no token to a second owner", async () => {
      const secrets = createSecretStore(database);
      await secrets.putToken(token);
      await expect(secrets.putToken({ ...token, owner: "mallory" })).rejects.toEqual(code("token_conflict"));
      expect((await secrets.token(token.sha256))?.owner).toBe("acme");
    });

    it("purges what has expired and nothing else", async () => {
      const secrets = createSecretStore(database);
      await secrets.putToken({ ...token, sha256: hex("old"), expiresAtMs: 99 });
      await secrets.putToken({ ...token, sha256: hex("new"), expiresAtMs: 100 });
      expect(await secrets.purgeExpired(100)).toBe(1);
      expect(await secrets.token(hex("old"))).toBeUndefined();
      expect(await secrets.token(hex("new"))).toBeDefined();
    });

    it("refuses what is not a token", async () => {
      const secrets = createSecretStore(database);
      for (const bad of [
        { ...token, sha256: "abc" },
        { ...token, owner: "" },
        { ...token, scopes: [""] },
        { ...token, expiresAtMs: -1 },
      ])
        await expect(secrets.putToken(bad)).rejects.toEqual(code("index_row_invalid"));
      const scopes = Array.from({ length: MAX_SCOPES + 1 }, (_, i) => `s${i}`);
      await expect(secrets.putToken({ ...token, scopes })).rejects.toEqual(code("token_scopes_too_many"));
      await secrets.putToken({ ...token, scopes: scopes.slice(1) });
      expect(await secrets.token("not a digest")).toBeUndefined();
      await secrets.revokeToken("not a digest");
    });
  });

  describe("migrations", () => {
    const newest = MIGRATIONS.length;
    const second = {
      version: newest + 1,
      name: "second",
      sql: "CREATE TABLE assay.second (a int); INSERT INTO assay.second VALUES (1);",
    };

    it("has nothing to do the second time", async () => {
      expect(await migrateDatabase(database)).toEqual([]);
    });

    it("applies each step once when many processes start together", async () => {
      await database.exec("DROP SCHEMA assay CASCADE");
      const connections = Array.from({ length: many ? 4 : 1 }, () => backend.connect());
      const done = await Promise.all(
        Array.from({ length: 8 }, (_, i) => migrateDatabase(connections[i % connections.length] ?? database)),
      );
      expect(done.flat()).toEqual(MIGRATIONS.map(({ version }) => version));
      if (many) for (const connection of connections) await connection.close();
    });

    it("leaves nothing of a step that fails", async () => {
      const broken = { version: newest + 2, name: "broken", sql: "CREATE TABLE assay.third (a int); SELECT 1 / 0;" };
      await expect(migrateDatabase(database, [...MIGRATIONS, second, broken])).rejects.toEqual(code("database_error"));
      await expect(database.query("SELECT * FROM assay.second")).rejects.toEqual(code("database_error"));
      expect(await migrateDatabase(database)).toEqual([]);
    });

    it("refuses a database that is newer than the program, and one whose steps were changed", async () => {
      expect(await migrateDatabase(database, [...MIGRATIONS, second])).toEqual([newest + 1]);
      await expect(migrateDatabase(database)).rejects.toEqual(code("database_schema_newer"));
      const edited = [...MIGRATIONS, { ...second, sql: `${second.sql} -- edited` }];
      await expect(migrateDatabase(database, edited)).rejects.toEqual(code("database_schema_changed"));
      await database.exec(`DROP TABLE assay.second; DELETE FROM assay.schema_migrations WHERE version = ${newest + 1}`);
      expect(await migrateDatabase(database)).toEqual([]);
    });

    it("gives every stored object an owner and a visibility", async () => {
      const { rows } = await database.query(
        `SELECT table_name, column_name FROM information_schema.columns
         WHERE table_schema = 'assay' AND column_name IN ('owner', 'visibility') ORDER BY 1, 2`,
      );
      expect(rows.map((row) => `${String(row["table_name"])}.${String(row["column_name"])}`)).toEqual(
        ["models", "receipts", "tokens"].flatMap((table) => [`${table}.owner`, `${table}.visibility`]),
      );
    });
  });

  describe("statements whose plan is kept", () => {
    it("answer by their values each time, side by side, and again after a refusal", async () => {
      const halved = (by: number) =>
        database.query("SELECT 12 / $1::int AS parts", [by], { plan: "contract_halved", timeoutMs: 5_000 });
      const parts = async (by: number) => (await halved(by)).rows[0]?.["parts"];
      expect(await Promise.all([1, 2, 3, 4, 6, 12].map(parts))).toEqual([12, 6, 4, 3, 2, 1]);
      await expect(halved(0)).rejects.toEqual(code("database_error"));
      for (let i = 0; i < 12; i++) expect(await parts(4)).toBe(3);
    });
  });

  describe("transactions", () => {
    it("roll back, pass on the error and leave the connection usable", async () => {
      const attempt = database.transaction(async (tx) => {
        await tx.query("DELETE FROM assay.index_state");
        throw new TypeError("changed my mind");
      });
      await expect(attempt).rejects.toEqual(new TypeError("changed my mind"));
      expect(await createIndexStore(database).watermark()).toBe(0);
      await expect(database.query("SELECT nothing")).rejects.toEqual(code("database_error"));
      expect((await database.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
      expect(database.available()).toBe(true);
    });
  });
});
