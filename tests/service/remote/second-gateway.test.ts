import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import { connectLog } from "@assay/driver-log";
import type { RemoteLog } from "@assay/driver-log";
import { decodeRecords, encodeRecords } from "@assay/protocol";
import type { LogRecord } from "@assay/protocol";
import {
  PROFILE,
  decodeEntry,
  encodeClaims,
  findContradictions,
  parseStatement,
  receiptSubject,
} from "@assay/receipts";
import type { ReleaseClaims, Statement } from "@assay/receipts";
import { encodeSidecar, followLog, followReleases } from "@assay/service-gateway";
import { createNodeLink } from "@assay/service-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeIssuer, startTestGateway, suite } from "./world.ts";
import type { TestGateway } from "./world.ts";

const operator = ed25519Signer(randomSeed());
let directories: string[] = [];
let first: TestGateway;
let closing: (() => Promise<unknown>)[] = [];
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "assay-second-"));
  directories.push(path);
  return path;
};
beforeEach(async () => {
  first = await startTestGateway({ directory: folder(), operator });
});
afterEach(async () => {
  for (const close of closing.toReversed()) await close();
  await first.close();
  for (const path of directories) rmSync(path, { recursive: true, force: true });
  [directories, closing] = [[], []];
});

/** A peer that joined, with its bearer; in front of its gateway stands something that can swallow answers. */
async function peer(seed = randomSeed()) {
  const identity = ed25519Signer(seed);
  const issuer = await makeIssuer("gateway", identity, undefined, undefined);
  const link = createNodeLink(
    { gatewayUrl: first.url, role: "gateway" },
    {
      identity,
      operator,
      suite,
      fetch: fetch as never,
      now: Date.now,
      advertisement: () => ({ offers: [], securityModes: ["vanilla"] }),
      load: () => ({ running: 0, queued: 0, healthy: true }),
    },
  );
  await link.start(issuer);
  closing.push(() => link.close());
  return { identity, issuer, link, seed };
}

type Between = { readonly url: string; swallow: number; refuse: boolean; passed: number; readonly server: Server };

/** Passes everything on; swallows the answers of so many appends, or hangs up on everybody. */
async function between(): Promise<Between> {
  const server = createServer((incoming, outgoing) => {
    if (state.refuse) {
      incoming.socket.destroy();
      return;
    }
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const { "content-length": _length, connection: _connection, host: _host, ...headers } = incoming.headers;
      const body = Buffer.concat(chunks);
      void fetch(`${first.url}${incoming.url}`, {
        method: incoming.method ?? "GET",
        headers: headers as Record<string, string>,
        body: body.length > 0 ? body : null,
      }).then(
        async (answer) => {
          const bytes = Buffer.from(await answer.arrayBuffer());
          state.passed++;
          if (incoming.url === "/internal/log/append" && state.swallow > 0) {
            state.swallow--;
            incoming.socket.destroy();
            return;
          }
          outgoing.writeHead(answer.status, { "content-type": "application/json" }).end(bytes);
        },
        () => incoming.socket.destroy(),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const state: Between = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    swallow: 0,
    refuse: false,
    passed: 0,
    server,
  };
  return state;
}

async function connect(token: () => string, url = first.url): Promise<RemoteLog> {
  const log = await connectLog({
    url,
    token,
    fetch: fetch as never,
    appendMs: 300,
    retryMs: 20,
    pollMs: 200,
  });
  closing.push(() => log.close());
  return log;
}

const keysetRecord = ({ keysetStatement, keysetBytes }: Awaited<ReturnType<typeof makeIssuer>>): LogRecord => ({
  entry: new Uint8Array(encodeEntryOf(keysetStatement.envelope)),
  claims: encodeSidecar({ claims: [keysetBytes], visibility: "public" }),
  opening: new Uint8Array(),
});
const encodeEntryOf = (envelope: Uint8Array): Uint8Array => {
  // The recorder's own bytes are used where it writes; here one entry is made by hand.
  const text = new TextEncoder().encode(PROFILE.entry);
  const head = envelope.length < 256 ? [0x58, envelope.length] : [0x59, envelope.length >> 8, envelope.length & 255];
  return Buffer.concat([Buffer.from([0x82, 0x60 | text.length]), text, Buffer.from(head), envelope]);
};

let named = 0;
function release(issuer: Awaited<ReturnType<typeof makeIssuer>>, name = `demo/model-${named++}`): LogRecord {
  const releaseId = suite.sha256(new TextEncoder().encode(name)).slice(0, 16);
  const claims = encodeClaims("release", {
    profile: PROFILE.release,
    releaseId,
    modelName: name,
    version: 1,
    modelDigest: new Uint8Array(32),
    action: "release",
    owner: "ed25519:aa",
    visibility: "public",
    sizeBytes: 1,
    issuedAtMs: Date.now(),
  });
  const [statement] = issuer.issue("release", [
    { claims, subject: `urn:assay:model:${name}@1`, issuedAtMs: Date.now() },
  ]);
  return {
    entry: encodeEntryOf(statement?.envelope ?? new Uint8Array()),
    claims: encodeSidecar({ claims: [claims], visibility: "public" }),
    opening: new Uint8Array(),
  };
}

describe("a log whose files another gateway owns", () => {
  test("is written to and read like one of its own", async () => {
    const { issuer, link } = await peer();
    const log = await connect(() => link.session());
    expect(log.origin).toBe("log.test/remote");
    const before = log.size();
    const [at] = await log.append([keysetRecord(issuer)]);
    // The keyset was logged when the peer joined: the same entry is the same record.
    expect(at).toBeLessThan(before);
    const indexes = await log.append([release(issuer), release(issuer)]);
    expect(indexes).toEqual([before, before + 1]);
    expect(log.size()).toBe(before + 2);
    expect(await log.read(before)).toEqual(await first.log.read(before));
    expect(await log.readRange(0, 2)).toEqual(await first.log.readRange(0, 2));
    expect(await log.read(10_000)).toBeUndefined();
    const note = await log.checkpoint({ atLeast: before + 2, timeoutMs: 2000 });
    expect(note.size).toBeGreaterThanOrEqual(before + 2);
    const hashes = (path: readonly Uint8Array[]): readonly string[] => path.map((hash) => bytesToHex(hash));
    expect(hashes(await log.inclusionProof(before, note.size))).toEqual(
      hashes(await first.log.inclusionProof(before, note.size)),
    );
    expect(hashes(await log.consistencyProof(1, note.size))).toEqual(
      hashes(await first.log.consistencyProof(1, note.size)),
    );
    expect(await log.resource("checkpoint")).toBeDefined();
    expect(await log.resource("tile/9/999")).toBeUndefined();
    // What the peer wrote is part of what the first gateway knows.
    expect(first.state.watermark()).toBe(first.log.size());
    expect(first.state.releases()).toEqual([before, before + 1]);
  });

  test("an append whose answer was lost is sent again and stands there once", async () => {
    const { issuer, link } = await peer();
    const proxy = await between();
    const log = await connect(() => link.session(), proxy.url);
    proxy.swallow = 2;
    const before = first.log.size();
    expect(await log.append([release(issuer)])).toEqual([before]);
    expect(first.log.size()).toBe(before + 1);
  });

  test("when it stays silent its callers are told so, and a repetition finds what was written", async () => {
    const { issuer, link } = await peer();
    const proxy = await between();
    const log = await connect(() => link.session(), proxy.url);
    proxy.swallow = 1000;
    const before = first.log.size();
    const record = release(issuer);
    await expect(log.append([record])).rejects.toMatchObject({ code: "log_unreachable" });
    expect(log.reachable()).toBe(false);
    proxy.swallow = 0;
    expect(await log.append([record])).toEqual([before]);
    expect(first.log.size()).toBe(before + 1);
  });

  test("a second session of the same gateway ends the first one's right to write", async () => {
    const { issuer, link } = await peer();
    const old = await connect(() => link.session());
    await connect(() => link.session());
    const before = first.log.size();
    await expect(old.append([release(issuer)])).rejects.toMatchObject({ code: "log_unreachable" });
    expect(first.log.size()).toBe(before);
  });

  test("is closed to whoever did not join as a gateway", async () => {
    const node = createNodeLink(
      { gatewayUrl: first.url, role: "node", url: "http://127.0.0.1:9", secret: new Uint8Array(32) },
      {
        identity: ed25519Signer(new Uint8Array(32).fill(1)),
        operator,
        suite,
        fetch: fetch as never,
        now: Date.now,
        advertisement: () => ({ offers: [], securityModes: ["vanilla"] }),
        load: () => ({ running: 0, queued: 0, healthy: true }),
      },
    );
    await node.start(await makeIssuer("node", ed25519Signer(new Uint8Array(32).fill(1)), undefined, undefined));
    closing.push(() => node.close());
    for (const [token, code] of [
      ["", "node_session_unknown"],
      ["assaynode_x", "node_session_unknown"],
      [await first.operatorToken(), "node_session_unknown"],
      [node.session(), "log_peer_required"],
    ] as const) {
      for (const path of ["records?from=0&limit=10", "size?above=0&waitMs=0", "resource?path=checkpoint"]) {
        const response = await fetch(`${first.url}/internal/log/${path}`, {
          headers: { authorization: `Bearer ${token}` },
        });
        expect(((await response.json()) as { code: string }).code).toBe(code);
      }
      await expect(connect(() => token)).rejects.toMatchObject({ code });
    }
  });

  test("takes from a peer only what the peer signed", async () => {
    const one = await peer();
    const other = await peer();
    const log = await connect(() => one.link.session());
    const before = first.log.size();
    const forged = release(one.issuer);
    const tampered: LogRecord = {
      ...forged,
      claims: encodeSidecar({ claims: [new Uint8Array([1])], visibility: "public" }),
    };
    const foreign = await makeIssuer("gateway", ed25519Signer(randomSeed()), undefined, undefined);
    const cut: LogRecord = { ...forged, entry: forged.entry.slice(0, 40) };
    for (const record of [release(other.issuer), tampered, keysetRecord(foreign), cut]) {
      await expect(log.append([record])).rejects.toMatchObject({ code: "log_record_refused" });
    }
    expect(first.log.size()).toBe(before);
  });

  test("refuses more than a call may hold, before it is sent", async () => {
    const { issuer, link } = await peer();
    const log = await connect(() => link.session());
    const record = release(issuer);
    await expect(log.append(Array.from({ length: 1025 }, () => record))).rejects.toMatchObject({
      code: "log_entry_too_large",
    });
    await expect(log.readRange(-1, 1)).rejects.toMatchObject({ code: "log_range" });
    for (const bytes of [new Uint8Array(3), encodeRecords([record]).slice(0, -1), new Uint8Array([0, 0, 8, 0])]) {
      expect(() => decodeRecords(bytes, 1024)).toThrow(expect.objectContaining({ code: "log_message_invalid" }));
    }
    await expect(connect(() => link.session(), "http://log.example")).rejects.toMatchObject({
      code: "log_url_invalid",
    });
    await expect(connect(() => link.session(), "http://127.0.0.1:9")).rejects.toMatchObject({
      code: "log_unreachable",
    });
  });

  test("releases of others are followed in order", async () => {
    const { issuer, link } = await peer();
    const log = await connect(() => link.session());
    const seen: ReleaseClaims[] = [];
    const follower = followReleases({
      log: first.log,
      suite,
      from: 0,
      apply: (claims) => void seen.push(claims),
      onError: (error) => {
        throw error;
      },
      pollMs: 10,
    });
    await log.append([release(issuer, "demo/a"), release(issuer, "demo/b")]);
    await follower.reached(first.log.size());
    await follower.stop();
    expect(seen.map(({ modelName }) => modelName)).toEqual(["demo/a", "demo/b"]);
  });
});

describe("a second gateway", () => {
  test("keeps its chains whole when the log falls silent in the middle of its receipts", async () => {
    const seeds = { node: randomSeed(), gateway: randomSeed() };
    const { link } = await peer(seeds.gateway);
    const proxy = await between();
    const log = await connect(() => link.session(), proxy.url);
    const second = await startTestGateway({ directory: folder(), operator, sink: log, seeds });
    closing.push(() => second.close());
    const follower = followLog({
      log,
      suite,
      from: second.state.watermark(),
      onRecords: (decoded, next) => second.state.apply(decoded, next),
      onError: () => undefined,
      pollMs: 10,
    });
    closing.push(() => follower.stop());
    const record = (gateway: TestGateway, i: number) => {
      const receiptId = suite.sha256(new TextEncoder().encode(`receipt ${i} ${Math.random()}`)).slice(0, 16);
      const root = suite.sha256(receiptId);
      return gateway.recorder.record({
        receiptId,
        subject: receiptSubject(receiptId),
        issuedAtMs: Date.now(),
        claims: encodeClaims("execution", {
          profile: PROFILE.execution,
          receiptId,
          requestRoot: root,
          responseRoot: root,
          requestFields: 1,
          responseFields: 1,
          mode: "vanilla",
          kind: "chat",
          issuedAtMs: Date.now(),
          finishReason: "stop",
        }),
        service: (executionDigest) => ({
          profile: PROFILE.service,
          receiptId,
          executionDigest,
          issuedAtMs: Date.now(),
          retention: "none",
        }),
        model: null,
        manifestDigest: null,
        mode: "vanilla",
        grantSha256: root,
        opening: new Uint8Array(),
      });
    };
    await Promise.all([record(second, 1), record(first, 2), record(second, 3)]);
    // Its answers are lost for longer than an append is tried: nobody knows whether the records are there.
    proxy.swallow = 1000;
    await expect(record(second, 4)).rejects.toMatchObject({ code: "log_unreachable" });
    await expect(record(second, 5)).rejects.toMatchObject({ code: "log_unreachable" });
    proxy.swallow = 0;
    await expect
      .poll(
        () =>
          record(second, 6).then(
            () => true,
            () => false,
          ),
        { timeout: 5000 },
      )
      .toBe(true);
    // And away altogether: nothing is written, and its numbers are used by what comes later.
    proxy.refuse = true;
    await expect(record(second, 7)).rejects.toMatchObject({ code: "log_unreachable" });
    proxy.refuse = false;
    await expect
      .poll(
        () =>
          record(second, 8).then(
            () => true,
            () => false,
          ),
        { timeout: 5000 },
      )
      .toBe(true);
    await record(first, 9);

    const statements: Statement[] = [];
    for (const { entry } of await first.log.readRange(0, 10_000))
      for (const envelope of decodeEntry(entry)) statements.push(parseStatement(suite, envelope));
    expect(findContradictions(statements)).toEqual([]);
    const chains = new Map<string, number[]>();
    for (const { header } of statements)
      if (header.kind !== "keyset") chains.set(header.issuer, [...(chains.get(header.issuer) ?? []), header.seq]);
    for (const seqs of chains.values()) expect(seqs).toEqual(seqs.map((_, i) => i));
    expect(chains.size).toBe(4);
    const digests = statements.map(({ digest }) => bytesToHex(digest));
    expect(new Set(digests).size).toBe(digests.length);
    await follower.reached(first.log.size());
    expect(second.state.watermark()).toBe(first.log.size());
    // The node of the second gateway is vouched for by it: a verifier that starts from the first one's trust knows it.
    expect(first.registry.identities().map(({ publicKey }) => bytesToHex(publicKey))).toContain(
      bytesToHex(ed25519Signer(seeds.node).publicKey),
    );
  });
});
