import { appendFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { bytesToHex } from "@assay/core";
import { ed25519Signer, nodeSuite as suite, randomSeed } from "@assay/driver-crypto";
import { createIssuer, findContradictions, parseStatement } from "@assay/receipts";
import type { ChainHead, Issuer } from "@assay/receipts";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openOutbox } from "./outbox.ts";
import type { OutboxEntry } from "./outbox-file.ts";
import { createNodeSigner } from "./signer.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "assay-outbox-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const entry = (seq: number, bytes = 8): OutboxEntry => ({
  seq,
  digest: suite.sha256(new Uint8Array([seq])),
  envelope: new Uint8Array(bytes).fill(seq),
  claims: new Uint8Array([seq, 1]),
});
const fileOf = (): string => join(directory, readdirSync(directory).find((name) => name.endsWith(".out")) ?? "");

describe("the outbox", () => {
  test("holds what it was given over a start, and forgets what is acknowledged", async () => {
    let outbox = await openOutbox({ directory });
    expect(outbox.head()).toEqual({ seq: 0 });
    expect(outbox.waiting()).toBeUndefined();
    await outbox.append([entry(0), entry(1), entry(2)]);
    await outbox.mark({ keyset: { bootSeq: 4, keyset: new Uint8Array(32).fill(4), statement: new Uint8Array(32) } });
    outbox.acknowledge(0, 1);
    expect(outbox.waiting()).toEqual({ from: 1, to: 3, count: 2 });
    await outbox.close();
    outbox = await openOutbox({ directory });
    expect(outbox.waiting()).toEqual({ from: 1, to: 3, count: 2 });
    expect(outbox.entry(2)).toEqual(entry(2));
    expect(outbox.entry(0)).toBeUndefined();
    expect(outbox.keyset()?.bootSeq).toBe(4);
    expect(outbox.head()).toEqual({ seq: 3, prev: entry(2).digest });
    outbox.acknowledge(0, 3);
    await outbox.close();
    outbox = await openOutbox({ directory });
    expect(outbox.waiting()).toBeUndefined();
    expect(outbox.head()).toEqual({ seq: 3, prev: entry(2).digest });
    await outbox.close();
  });

  test("gaps between what waits are kept as they are", async () => {
    let outbox = await openOutbox({ directory });
    await outbox.append([0, 1, 2, 3, 4].map((seq) => entry(seq)));
    outbox.acknowledge(1, 3);
    for (let i = 0; i < 2; i++) {
      await outbox.close();
      outbox = await openOutbox({ directory });
      expect([0, 1, 2, 3, 4].filter((seq) => outbox.entry(seq))).toEqual([0, 3, 4]);
    }
    await outbox.append([entry(5)]);
    await outbox.close();
  });

  test("every cut of the last write is either wholly there or not at all", async () => {
    const outbox = await openOutbox({ directory });
    await outbox.append([entry(0)]);
    const before = statSync(fileOf()).size;
    await outbox.append([entry(1), entry(2)]);
    const name = fileOf();
    const whole = readFileSync(name);
    await outbox.close();
    for (let cut = before; cut <= whole.length; cut++) {
      rmSync(directory, { recursive: true, force: true });
      directory = mkdtempSync(join(tmpdir(), "assay-outbox-"));
      writeFileSync(join(directory, "0000000000000000.out"), whole.subarray(0, cut));
      const again = await openOutbox({ directory });
      expect(again.head().seq).toBe(cut === whole.length ? 3 : 1);
      await again.append([entry(again.head().seq)]);
      await again.close();
    }
  });

  test("damage before a whole batch is refused, not guessed over", async () => {
    const outbox = await openOutbox({ directory });
    await outbox.append([entry(0)]);
    const middle = statSync(fileOf()).size - 1;
    await outbox.append([entry(1)]);
    await outbox.close();
    const bytes = readFileSync(fileOf());
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    writeFileSync(fileOf(), bytes);
    await expect(openOutbox({ directory })).rejects.toMatchObject({ code: "outbox_corrupt" });
  });

  test("another layout is refused", async () => {
    const outbox = await openOutbox({ directory });
    await outbox.close();
    const bytes = readFileSync(fileOf());
    writeFileSync(fileOf(), bytes.subarray(0, 10));
    await expect(openOutbox({ directory })).rejects.toMatchObject({ code: "outbox_corrupt" });
    writeFileSync(fileOf(), bytes);
    appendFileSync(fileOf(), randomBytes(64));
    await (await openOutbox({ directory })).close();
  });

  test("takes no more than may wait, in number and in bytes", async () => {
    const outbox = await openOutbox({ directory, maxEntries: 2 });
    await outbox.append([entry(0), entry(1)]);
    expect(outbox.full()).toBe(true);
    await expect(outbox.append([entry(2)])).rejects.toMatchObject({ code: "outbox_full" });
    outbox.acknowledge(0, 1);
    await outbox.append([entry(2)]);
    await outbox.close();
    rmSync(directory, { recursive: true, force: true });
    const small = await openOutbox({ directory, maxBytes: 1000 });
    await small.append([entry(0, 1000)]);
    await expect(small.append([entry(1)])).rejects.toMatchObject({ code: "outbox_full" });
    await small.close();
  });

  test("is written anew when most of it is of no use", async () => {
    const outbox = await openOutbox({ directory, compactBytes: 4000 });
    let largest = 0;
    for (let seq = 0; seq < 60; seq++) {
      await outbox.append([entry(seq, 200)]);
      outbox.acknowledge(0, seq);
      largest = Math.max(largest, statSync(fileOf()).size);
    }
    expect(largest).toBeLessThan(6000);
    expect(readdirSync(directory)).toHaveLength(1);
    await outbox.close();
    const again = await openOutbox({ directory });
    expect(again.waiting()).toEqual({ from: 59, to: 60, count: 1 });
    await again.close();
  });

  test("whoever opens it last has it alone", async () => {
    const first = await openOutbox({ directory });
    await first.append([entry(0)]);
    const second = await openOutbox({ directory });
    await expect(first.append([entry(1)])).rejects.toMatchObject({ code: "outbox_fenced" });
    await expect(first.append([entry(1)])).rejects.toMatchObject({ code: "outbox_fenced" });
    await second.append([entry(1)]);
    await first.close();
    await second.close();
  });
});

const identity = ed25519Signer(randomSeed());
async function issuerAt(clock: number, head: ChainHead, previous?: Issuer, lifeMs = 1000): Promise<Issuer> {
  return createIssuer({
    suite,
    subject: "urn:assay:node:test",
    role: "node",
    identity,
    keys: { execution: ed25519Signer(randomSeed()) },
    instanceId: new Uint8Array(16),
    bootSeq: previous ? previous.document.bootSeq + 1 : 0,
    ...(previous ? { previous: { keyset: previous.keysetDigest, statement: previous.keysetStatement.digest } } : {}),
    notBeforeMs: clock,
    notAfterMs: clock + lifeMs,
    head,
  });
}
const item = (clock: number) => ({
  claims: new Uint8Array(randomBytes(8)),
  subject: "urn:assay:receipt:aa",
  issuedAtMs: clock,
});

describe("a node's signer", () => {
  test("what it resolves with is on disk, many under one flush, and the chain is whole", async () => {
    const outbox = await openOutbox({ directory });
    const signer = createNodeSigner(
      {
        issuer: await issuerAt(0, outbox.head()),
        outbox,
        rotate: () => Promise.reject(new Error("not now")),
        announce: () => Promise.resolve(),
        now: () => 1,
      },
      { rotateBeforeMs: 0 },
    );
    const statements = await Promise.all(Array.from({ length: 300 }, () => signer.sign(item(1))));
    for (const { header, digest } of statements) {
      expect(bytesToHex(outbox.entry(header.seq)?.digest ?? new Uint8Array())).toBe(bytesToHex(digest));
    }
    expect(statements.map(({ header }) => header.seq)).toEqual(statements.map((_, i) => i));
    await outbox.close();
    const again = await openOutbox({ directory });
    const read = Array.from({ length: 300 }, (_, seq) =>
      parseStatement(suite, again.entry(seq)?.envelope ?? new Uint8Array()),
    );
    expect(findContradictions(read)).toEqual([]);
    await again.close();
  });

  test("when the outbox takes nothing, numbers are not used up", async () => {
    const outbox = await openOutbox({ directory, maxEntries: 1 });
    const issuer = await issuerAt(0, outbox.head());
    const signer = createNodeSigner(
      {
        issuer,
        outbox,
        rotate: () => Promise.reject(new Error("not now")),
        announce: () => Promise.resolve(),
        now: () => 1,
      },
      { rotateBeforeMs: 0 },
    );
    await signer.sign(item(1));
    expect(() => signer.assertRoom()).toThrow(expect.objectContaining({ code: "outbox_full" }));
    await expect(signer.sign(item(1))).rejects.toMatchObject({ code: "outbox_full" });
    expect(issuer.head().seq).toBe(1);
    outbox.acknowledge(0, 1);
    expect((await signer.sign(item(1))).header.seq).toBe(1);
    await outbox.close();
  });

  test("refuses dates outside its keyset, more than may wait, and everything once it drains", async () => {
    const outbox = await openOutbox({ directory });
    const signer = createNodeSigner(
      {
        issuer: await issuerAt(1000, outbox.head()),
        outbox,
        rotate: () => Promise.reject(new Error("not now")),
        announce: () => Promise.resolve(),
        now: () => 1500,
      },
      { rotateBeforeMs: 0, maxPending: 2 },
    );
    const late = await Promise.allSettled([signer.sign(item(999)), signer.sign(item(2001)), signer.sign(item(1500))]);
    expect(late.map((one) => (one.status === "rejected" ? (one.reason as { code: string }).code : one.status))).toEqual(
      ["clock_changed", "clock_changed", "signer_overloaded"],
    );
    await signer.drain();
    await expect(signer.sign(item(1500))).rejects.toMatchObject({ code: "node_draining" });
    await outbox.close();
  });

  test("changes its keyset before its end, once the gateway knows the next one, and goes on where it was", async () => {
    const outbox = await openOutbox({ directory });
    let clock = 0;
    let away = true;
    const errors: unknown[] = [];
    const first = await issuerAt(0, outbox.head());
    const signer = createNodeSigner(
      {
        issuer: first,
        outbox,
        rotate: (head) => issuerAt(clock, head, first),
        announce: () => (away ? Promise.reject(new Error("away")) : Promise.resolve()),
        now: () => clock,
        onError: (error) => errors.push(error),
      },
      { rotateBeforeMs: 500, rotateRetryMs: 100 },
    );
    await signer.sign(item(0));
    clock = 600;
    // The gateway is away: the old keyset serves on.
    expect(bytesToHex((await signer.sign(item(600))).header.keyset)).toBe(bytesToHex(first.keysetDigest));
    expect(errors).toHaveLength(1);
    away = false;
    clock = 800;
    const after = await signer.sign(item(800));
    expect(bytesToHex(after.header.keyset)).not.toBe(bytesToHex(first.keysetDigest));
    expect(after.header.seq).toBe(2);
    expect(outbox.keyset()?.bootSeq).toBe(1);
    // Past its end without a next one nothing is signed.
    away = true;
    clock = 5000;
    await expect(signer.sign(item(5000))).rejects.toThrow("away");
    await outbox.close();
  });
});
