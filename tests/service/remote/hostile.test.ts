import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import {
  encodeFault,
  encodeFinishedText,
  encodeFrame,
  encodeMessage,
  encodeRemoteText,
  MESSAGE,
  retryAfterOf,
} from "@assay/protocol";
import { PROFILE, commitFields, encodeClaims, receiptSubject, transcriptRoot, transcriptSalt } from "@assay/receipts";
import { textFields } from "@assay/service-gateway";
import { createNodeLink, createNodeServer, createTextNode, startRemoteNode } from "@assay/service-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createScriptedEngine } from "../text-engine.ts";
import { chatRequest, makeIssuer, startTestGateway, startTestNode, suite } from "./world.ts";
import type { TestGateway, TestNode } from "./world.ts";

// Nodes that answer what no node should, and callers that ask a node what they should not.

const operator = ed25519Signer(randomSeed());
let gateway: TestGateway;
let closing: (() => unknown)[] = [];
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "assay-hostile-"));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
};
beforeEach(async () => {
  gateway = await startTestGateway({ directory: folder(), operator, silenceMs: 300 });
});
afterEach(async () => {
  await gateway.close();
  for (const close of closing.splice(0).toReversed()) await close();
});

/** A server that was admitted as a node, and answers as `answer` says. */
async function hostile(answer: (request: IncomingMessage, response: ServerResponse, body: Buffer) => void) {
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => answer(request, response, Buffer.concat(chunks)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const identity = ed25519Signer(randomSeed());
  const issuer = await makeIssuer("node", identity, undefined, undefined);
  const link = createNodeLink(
    {
      gatewayUrl: gateway.url,
      role: "node",
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      secret: new Uint8Array(randomBytes(32)),
    },
    {
      identity,
      operator,
      suite,
      fetch: fetch as never,
      now: Date.now,
      advertisement: () => ({
        offers: [{ engine: "scripted", model: "echo", kinds: ["chat"] }],
        securityModes: ["vanilla"],
      }),
      load: () => ({ running: 0, queued: 0, healthy: true }),
    },
  );
  const { subject } = await link.start(issuer);
  closing.push(() => link.close());
  return { subject, issuer, link };
}

/** Takes all frames; what was thrown, by the frames and by the end. */
async function outcome(subject: string, request = chatRequest("hello")) {
  const execution = gateway.network.executor(subject).execute(request);
  const frames = [];
  let failure: unknown;
  try {
    for await (const frame of execution.frames) frames.push(frame);
  } catch (error) {
    failure = error;
  }
  const ended = await execution.finish().then(
    (executed) => ({ executed, error: undefined }),
    (error: unknown) => ({ executed: undefined, error }),
  );
  return { frames, failure, ...ended };
}
const DATA =
  '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"echo","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}';
const FRAME = encodeFrame({ data: DATA });

describe("a node that answers", () => {
  test.each<[string, (response: ServerResponse) => void, string]>([
    ["with a page of something else", (r) => r.writeHead(200).end("<html>"), "node_answer_invalid"],
    ["with nothing", (r) => r.writeHead(200).end(), "node_lost"],
    ["with another's error page", (r) => r.writeHead(502).end("Bad Gateway"), "node_lost"],
    [
      "with its own refusal of the secret",
      (r) => r.writeHead(401).end(encodeFault({ code: "node_unauthorized", message: "no", hints: [] })),
      "node_lost",
    ],
    [
      "with a code that is not a node's to give",
      (r) => r.writeHead(400).end(encodeFault({ code: "token_invalid", message: "no", hints: [] })),
      "node_failed",
    ],
    ["with a hang-up", (r) => r.destroy(), "node_lost"],
    ["never", () => undefined, "node_lost"],
    [
      "with a message of four gigabytes",
      (r) => r.writeHead(200).write(Buffer.from([1, 0xff, 0xff, 0xff, 0xff])),
      "node_answer_invalid",
    ],
    [
      "with a record that is none",
      (r) => r.writeHead(200).end(encodeMessage(MESSAGE.finished, Buffer.from([0, 0, 0, 2, 123, 125]))),
      "node_answer_invalid",
    ],
    [
      "with a fault after it began",
      (r) =>
        r
          .writeHead(200)
          .end(encodeMessage(MESSAGE.fault, encodeFault({ code: "context_exceeded", message: "long", hints: [] }))),
      "context_exceeded",
    ],
  ])("%s is not passed on", async (_what, answer, code) => {
    const { subject } = await hostile((_request, response) => answer(response));
    const { frames, failure, error } = await outcome(subject);
    expect(frames).toEqual([]);
    expect(failure).toMatchObject({ code });
    expect(error).toMatchObject({ code });
  });

  test("with a refusal that says when to come again is quoted", async () => {
    const { subject } = await hostile((_request, response) =>
      response
        .writeHead(503)
        .end(encodeFault({ code: "engine_overloaded", message: "full", hints: [], retryAfterMs: 1500 })),
    );
    const { failure } = await outcome(subject);
    expect(retryAfterOf(failure)).toBe(1500);
  });

  test("and then falls silent leaves what was relayed, stated by this gateway", async () => {
    const { subject } = await hostile((_request, response) => response.writeHead(200).write(FRAME));
    const { frames, failure, executed } = await outcome(subject);
    expect(frames).toHaveLength(1);
    expect(failure).toMatchObject({ code: "node_lost" });
    expect(executed).toMatchObject({ finish: "incomplete" });
    expect(executed?.envelope).toBeUndefined();
  });

  test.each([
    ["another receipt", "receipt"],
    ["another model", "model"],
    ["another nonce", "nonce"],
    ["another caller", "caller"],
    ["another kind", "kind"],
    ["another mode", "mode"],
    ["another request", "request"],
    ["another answer", "answer"],
    ["other frames", "frames"],
    ["dated otherwise", "date"],
  ] as const)("what is about %s convinces nobody", async (why, lie) => {
    const { subject, issuer } = await hostile((_request, response, body) => {
      const length = body.readUInt32BE(0);
      const head = JSON.parse(body.subarray(4, 4 + length).toString()) as { receiptId: string; masterSalt: string };
      const masterSalt = new Uint8Array(Buffer.from(head.masterSalt, "base64"));
      const receiptId = lie === "receipt" ? new Uint8Array(16) : new Uint8Array(Buffer.from(head.receiptId, "base64"));
      const asked = commitFields(suite, masterSalt, "request", textFields.request(body.subarray(4 + length)));
      const answered = commitFields(suite, masterSalt, "response", textFields.response("chat", true, [{ data: DATA }]));
      const salt = transcriptSalt(suite, masterSalt);
      const issuedAtMs = Date.now();
      const claims = encodeClaims("execution", {
        profile: PROFILE.execution,
        receiptId,
        modelName: lie === "model" ? "other" : "echo",
        ...(lie === "nonce" ? { clientNonce: new Uint8Array(8) } : {}),
        ...(lie === "caller" ? { principal: { caller: "x", authentication: "token" as const } } : {}),
        requestRoot: lie === "request" ? new Uint8Array(32) : asked.root,
        responseRoot: lie === "answer" ? new Uint8Array(32) : answered.root,
        requestFields: asked.count,
        responseFields: answered.count,
        transcript: {
          root: transcriptRoot(suite, salt, [new TextEncoder().encode(DATA)]),
          frames: lie === "frames" ? 2 : 1,
        },
        mode: lie === "mode" ? "tee" : "vanilla",
        ...(lie === "mode" ? { evidenceDigest: new Uint8Array(32) } : {}),
        kind: lie === "kind" ? "completion" : "chat",
        issuedAtMs,
        finishReason: "stop",
      });
      const [statement] = issuer.issue("execution", [{ claims, subject: receiptSubject(receiptId), issuedAtMs }]);
      const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
      const done = {
        subject: receiptSubject(receiptId),
        issuedAtMs: lie === "date" ? issuedAtMs + 1 : issuedAtMs,
        claims,
        envelope: statement?.envelope ?? new Uint8Array(1),
        engineMs: 1,
        finish: "stop" as const,
        usage,
        modelName: "echo",
        manifestDigest: null,
      };
      response.writeHead(200).write(FRAME);
      response.end(encodeMessage(MESSAGE.finished, encodeFinishedText(done)));
    });
    const { failure, error } = await outcome(subject);
    for (const one of [failure, error]) {
      expect(one).toMatchObject({ code: "node_statement_invalid" });
      expect((one as Error).message).toContain(why);
    }
  });
});

describe("a node's server", () => {
  async function asked(node: TestNode, path: string, init: { readonly body?: string } = {}) {
    const response = await fetch(`${node.url}/node/v1/${path}`, {
      method: "POST",
      ...init,
      headers: { authorization: `Bearer ${bytesToHex(secretOf(node))}` },
    });
    const text = await response.text();
    return { status: response.status, code: /"code":"([a-z_]+)"/.exec(text)?.[1] };
  }
  const secretOf = (node: TestNode): Uint8Array => gateway.registry.party(node.key)?.secret ?? new Uint8Array();

  test("refuses what is malformed, unknown, or while it drains", async () => {
    const node = await startTestNode({ directory: folder(), gatewayUrl: gateway.url, operator });
    closing.push(() => node.close());
    for (const [path, body, status, code] of [
      ["text", "", 400, "node_message_invalid"],
      ["text", "\0\0\0\u0002{}", 400, "node_message_invalid"],
      ["tensor", "garbage", 400, "node_message_invalid"],
      ["other", "", 404, "route_not_found"],
      ["cancel/zz", "", 404, "route_not_found"],
      [`cancel/${"0".repeat(32)}`, "", 204, undefined],
    ] as const) {
      expect(await asked(node, path, { body })).toEqual({ status, code });
    }
    node.server.drain();
    expect(await asked(node, "text", { body: "x" })).toEqual({ status: 503, code: "node_draining" });
  });

  test("holds its limits of bytes and of work, and runs no receipt twice at once", async () => {
    const identity = ed25519Signer(randomSeed());
    const issuer = await makeIssuer("node", identity, undefined, undefined);
    const engine = createScriptedEngine();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const secret = new Uint8Array(32).fill(1);
    const text = createTextNode({ engines: () => engine, suite, now: Date.now, subject: "urn:assay:node:x" });
    const server = await createNodeServer(
      { host: "127.0.0.1", port: 0, maxInFlight: 2, maxBodyBytes: 2000, pulseMs: 20 },
      {
        secret,
        signer: {
          issuer: () => issuer,
          sign: (item) => Promise.resolve(issuer.issue("execution", [item])[0] as never),
          assertRoom: () => undefined,
          drain: () => Promise.resolve(),
        },
        text: { ...text, check: () => held },
        parseText: () => chatRequest("x").parsed,
        target: () => Promise.resolve(chatRequest("x").target),
      },
    );
    closing.push(() => server.close());
    const send = (body: Uint8Array) =>
      fetch(`${server.url}/node/v1/text`, {
        method: "POST",
        headers: { authorization: `Bearer ${bytesToHex(secret)}` },
        body: Buffer.from(body),
      });
    const one = Buffer.concat(encodeRemoteText(chatRequest("one")));
    const running = send(one);
    // The head is on its way once pulses come, although the engine says nothing yet.
    const first = await running;
    expect(first.status).toBe(200);
    const again = await send(one);
    expect([again.status, ((await again.json()) as { code: string }).code]).toEqual([409, "receipt_id_reused"]);
    const large = await send(Buffer.alloc(2001));
    expect([large.status, ((await large.json()) as { code: string }).code]).toEqual([413, "request_too_large"]);
    const two = send(Buffer.concat(encodeRemoteText(chatRequest("two"))));
    await two;
    const third = await send(Buffer.concat(encodeRemoteText(chatRequest("three"))));
    expect([third.status, ((await third.json()) as { code: string }).code]).toEqual([503, "node_overloaded"]);
    release();
    expect((await first.arrayBuffer()).byteLength).toBeGreaterThan(100);
    await (await two).arrayBuffer();
  });

  test("executes nothing while too much of it waits for the log", async () => {
    const identity = ed25519Signer(randomSeed());
    const node = await startRemoteNode(
      {
        gatewayUrl: gateway.url,
        outbox: { directory: folder(), maxEntries: 1 },
        server: { host: "127.0.0.1", port: 0 },
        offerAfterMs: 60_000,
        retryMs: [30, 100],
      },
      {
        identity,
        operator,
        suite,
        fetch: fetch as never,
        now: Date.now,
        random: (bytes) => new Uint8Array(randomBytes(bytes)),
        issuer: (previous, head) => makeIssuer("node", identity, previous, head),
        advertisement: () => ({
          offers: [{ engine: "scripted", model: "echo", kinds: ["chat"] }],
          securityModes: ["vanilla"],
        }),
        text: createTextNode({
          engines: () => createScriptedEngine(),
          suite,
          now: Date.now,
          subject: "urn:assay:node:x",
        }),
        parseText: () => chatRequest("hello").parsed,
        target: () => Promise.resolve(chatRequest("x").target),
      },
    );
    closing.push(() => node.close());
    const subject = gateway.registry.party(bytesToHex(identity.publicKey))?.subject ?? "";
    expect((await outcome(subject)).executed?.finish).toBe("stop");
    expect((await outcome(subject)).failure).toMatchObject({ code: "outbox_full" });
    await node.link.beat();
    expect(gateway.registry.candidates()).toMatchObject([{ draining: true }]);
  });
});
