import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import type { FileLog } from "@assay/driver-log";
import { EMPTY_TRUST, decodeClaims, decodeEntry, encodeBundle, parseStatement } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import { createExporter, decodeSidecar } from "@assay/service-gateway";
import { formatVkey } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import { afterEach, describe, expect, test } from "vitest";
import { createScriptedEngine } from "../text-engine.ts";
import { chatRequest, doubled, startTestGateway, startTestNode, suite } from "./world.ts";
import type { TestGateway, TestNode } from "./world.ts";

const operator = ed25519Signer(randomSeed());
const folders: string[] = [];
const closing: (() => Promise<unknown>)[] = [];
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "assay-remote-"));
  folders.push(path);
  return path;
};
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
});

async function gateway(options: Partial<Parameters<typeof startTestGateway>[0]> = {}): Promise<TestGateway> {
  const started = await startTestGateway({ directory: folder(), operator, ...options });
  closing.push(() => started.close());
  return started;
}
async function node(of: TestGateway, options: Partial<Parameters<typeof startTestNode>[0]> = {}): Promise<TestNode> {
  const started = await startTestNode({ directory: folder(), gatewayUrl: of.url, operator, ...options });
  closing.push(() => started.close());
  return started;
}

/** Executions of an issuer in the log, in the log's order. */
async function executions(of: TestGateway, issuer: string) {
  const found = [];
  for (const record of await of.log.readRange(0, 10_000)) {
    const [envelope, service] = decodeEntry(record.entry);
    const statement = envelope && parseStatement(suite, envelope);
    if (statement?.header.kind !== "execution" || statement.header.issuer !== issuer) continue;
    const [claims, serviceClaims] = decodeSidecar(record.claims).claims;
    found.push({
      index: record.index,
      statement,
      claims: decodeClaims("execution", claims ?? new Uint8Array()),
      service: service && serviceClaims ? decodeClaims("service", serviceClaims) : undefined,
    });
  }
  return found;
}

describe("a node elsewhere", () => {
  test("joins with its operator's countersignature, answers, and its own signature is what is logged", async () => {
    const of = await gateway();
    const remote = await node(of);
    expect(remote.joined.state).toBe("active");
    expect(of.state.lastKeyset(remote.subject)?.bootSeq).toBe(0);
    expect(of.registry.identities()).toEqual([
      { algorithm: "ed25519", publicKey: remote.identity.publicKey, subject: remote.subject, label: "node" },
    ]);
    expect(of.registry.candidates()).toMatchObject([{ subject: remote.subject, offers: [{ model: "echo" }] }]);
    const { executed, recorded, frames } = await of.chat(remote.subject, chatRequest("one two three"));
    expect(executed.finish).toBe("stop");
    expect(frames.length).toBeGreaterThan(3);
    const [only] = await executions(of, remote.subject);
    expect(bytesToHex(only?.statement.digest ?? new Uint8Array())).toBe(bytesToHex(recorded.execution.digest));
    expect(only?.service?.route?.chosen).toBe(remote.subject);
    // The node forgets what it knows logged.
    await remote.link.beat();
    expect(remote.outbox.waiting()).toBeUndefined();
  });

  test("its receipt verifies for whoever trusts the gateway, with the node's keyset in the bundle", async () => {
    const of = await gateway();
    const remote = await node(of);
    const { recorded } = await of.chat(remote.subject, chatRequest("to be checked"));
    const exporter = createExporter({
      log: of.log,
      index: { supplements: () => Promise.resolve([]) } as never,
      state: of.state,
      suite,
      logSigner: ed25519Signer(new Uint8Array(32).fill(3)),
    });
    const { bundle } = await exporter.bundle(recorded.logIndex, 2000);
    const verify = (identities: Trust["identities"]) =>
      createVerifier({
        suite,
        trust: {
          ...EMPTY_TRUST,
          identities,
          logs: [
            {
              origin: of.log.origin,
              keys: (of.log as FileLog).keys.map(formatVkey),
              witnesses: [],
              quorum: 0,
            },
          ],
        },
      })(encodeBundle(bundle), Date.now());
    const own = {
      algorithm: "ed25519" as const,
      publicKey: of.identity.gateway.publicKey,
      subject: of.gatewaySubject,
      label: "local",
    };
    expect(await verify([own, ...of.registry.identities()])).toMatchObject({ status: "verified" });
    expect(await verify([own])).toMatchObject({ status: "inconclusive" });
    expect(bundle.keysets).toHaveLength(2);
  });

  test("an answer without a stream is one frame, handed on only with its record", async () => {
    const of = await gateway();
    const remote = await node(of);
    const { executed, frames } = await of.chat(remote.subject, chatRequest("hello", { stream: false }));
    expect(frames).toHaveLength(1);
    expect(executed.responseFields.map(({ name }) => name)).toContain("choices");
  });

  test("many at once share signatures, and the chain in the log has no gap", async () => {
    const of = await gateway();
    const remote = await node(of);
    await Promise.all(Array.from({ length: 40 }, (_, i) => of.chat(remote.subject, chatRequest(`number ${i}`))));
    const seqs = (await executions(of, remote.subject)).map(({ statement }) => statement.header.seq);
    expect(seqs.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(of.state.chain(remote.subject).missing(0, 40, 10).ranges).toEqual([]);
  });

  test("runs tensors, and what it states is about exactly these inputs and outputs", async () => {
    const of = await gateway();
    const remote = await node(of);
    const answer = await of.network.tensor(remote.subject)(tensorRequest([1, 2, 3]));
    expect([...new Float32Array(answer.outputs[0]?.data.slice().buffer ?? new ArrayBuffer(0))]).toEqual([2, 4, 6]);
    expect(answer).toMatchObject({ node: remote.subject, envelope: expect.any(Uint8Array) as Uint8Array });
  });

  test("a statement about other outputs than were sent is refused, and the node becomes suspect", async () => {
    const of = await gateway();
    const remote = await node(of, {
      tensor: (request) => {
        const honest = doubled(request);
        return {
          ...honest,
          outputs: honest.outputs.map((tensor) => ({ ...tensor, data: tensor.data.map((b) => b ^ 1) })),
        };
      },
    });
    await expect(of.network.tensor(remote.subject)(tensorRequest([1]))).rejects.toMatchObject({
      code: "node_statement_invalid",
    });
    const party = of.registry.party(remote.key);
    expect(party && of.registry.liveness(party)).toBe("suspect");
    await remote.link.beat();
    expect(party && of.registry.liveness(party)).toBe("alive");
  });

  test("an engine's refusal comes through as it is, before any frame", async () => {
    const of = await gateway();
    const remote = await node(of);
    const request = chatRequest("x");
    const execution = of.network.executor(remote.subject).execute({
      ...request,
      target: { ...request.target, engine: "absent" },
    });
    await expect(async () => {
      for await (const _frame of execution.frames) throw new Error("a frame came");
    }).rejects.toMatchObject({ code: "engine_unavailable" });
    await expect(execution.finish()).rejects.toMatchObject({ code: "engine_unavailable" });
  });

  test("an engine that breaks off leaves the node's own statement that it did", async () => {
    const of = await gateway();
    const remote = await node(of);
    const { executed, failure } = await of.chat(remote.subject, chatRequest("break"));
    expect(failure).toMatchObject({ code: "engine_interrupted" });
    expect(executed).toMatchObject({ finish: "incomplete", envelope: expect.any(Uint8Array) as Uint8Array });
  });

  test("a client that leaves stops the work, and the node states the part that it did", async () => {
    const of = await gateway();
    const left: string[] = [];
    const remote = await node(of, { engine: endless(() => left.push("stopped")) });
    const aborted = new AbortController();
    let seen = 0;
    const { executed } = await of.chat(remote.subject, chatRequest("go on", { signal: aborted.signal }), () => {
      if (++seen === 3) aborted.abort();
    });
    expect(left).toEqual(["stopped"]);
    expect(executed).toMatchObject({ finish: "incomplete", envelope: expect.any(Uint8Array) as Uint8Array });
  });

  test("a node that dies before its first frame is lost, and one that dies after it leaves what was relayed", async () => {
    const of = await gateway({ silenceMs: 500 });
    const remote = await node(of, { engine: endless() });
    const dying = of.chat(remote.subject, chatRequest("go on"), () => {
      remote.server.server.closeAllConnections();
    });
    const { executed, failure, recorded } = await dying;
    expect(failure).toMatchObject({ code: "node_lost" });
    expect(executed.envelope).toBeUndefined();
    expect(executed.finish).toBe("incomplete");
    const claims = decodeClaims("execution", executed.claims);
    expect(claims.upstream).toEqual({ provider: "node", modelReported: "echo", facts: { node: remote.subject } });
    expect(recorded.execution.header.issuer).not.toBe(remote.subject);
    await remote.server.close();
    const execution = of.network.executor(remote.subject).execute(chatRequest("again"));
    await expect(async () => {
      for await (const _frame of execution.frames) throw new Error("a frame came");
    }).rejects.toMatchObject({ code: "node_lost" });
    await expect(execution.finish()).rejects.toMatchObject({ code: "node_lost" });
  });

  test("what the gateway never recorded is offered again, once, and says so", async () => {
    const of = await gateway();
    const remote = await node(of);
    // Executed and answered, and the gateway's part forgotten: as if it had died before recording.
    const execution = of.network.executor(remote.subject).execute(chatRequest("lost"));
    for await (const _frame of execution.frames);
    const executed = await execution.finish();
    expect(remote.outbox.waiting()).toMatchObject({ count: 1 });
    // While its request is under way here it waits.
    expect(of.work.has(remote.subject, decodeClaims("execution", executed.claims))).toBe(true);
    await remote.link.beat();
    expect(await executions(of, remote.subject)).toHaveLength(0);
    const { restartedUrl, restarted } = await restart(of);
    expect(restartedUrl).toBe(of.url);
    await until(async () => (await executions(restarted, remote.subject)).length === 1);
    const [only] = await executions(restarted, remote.subject);
    expect(only?.service).toMatchObject({
      assurance: { reason: "recovered from the node" },
      extensions: { recovered: true },
    });
    await until(() => Promise.resolve(remote.outbox.waiting() === undefined));
    await remote.link.beat();
    expect(await executions(restarted, remote.subject)).toHaveLength(1);
  });

  test("only the gateway that it joined may give it work", async () => {
    const of = await gateway();
    const remote = await node(of);
    for (const authorization of [undefined, "Bearer x", `Bearer ${"0".repeat(64)}`]) {
      const response = await fetch(`${remote.url}/node/v1/health`, {
        headers: authorization === undefined ? {} : { authorization },
      });
      expect(response.status).toBe(401);
    }
  });

  test("drained it gets nothing new, and after it left nothing at all", async () => {
    const of = await gateway();
    const remote = await node(of);
    await remote.link.drain();
    expect(of.registry.candidates()).toMatchObject([{ draining: true }]);
    const request = chatRequest("x");
    await expect(of.network.executor(remote.subject).check(request.parsed, request.target)).rejects.toMatchObject({
      code: "node_lost",
    });
    await remote.link.leave();
    expect(of.registry.candidates()).toEqual([]);
    expect(() => of.network.executor(remote.subject)).toThrow(expect.objectContaining({ code: "node_lost" }));
    // Its identity stays known: what it signed is still to be verified.
    expect(of.registry.identities()).toHaveLength(1);
  });
});

function tensorRequest(values: readonly number[]) {
  return {
    requestedName: "demo/double",
    model: {
      name: "demo/double",
      version: 1,
      manifestDigest: "ab".repeat(32),
      visibility: "public" as const,
      owner: "ed25519:aa",
      path: "/nowhere",
      sha256: "cd".repeat(32),
    },
    profile: "portable" as const,
    inputs: [
      {
        name: "x",
        datatype: "FP32" as const,
        shape: [values.length],
        data: new Uint8Array(Float32Array.from(values).buffer),
      },
    ],
    signal: new AbortController().signal,
  };
}

/** The scripted engine, with an answer that has no end until it is stopped. */
function endless(onStop: () => void = () => undefined): ReturnType<typeof createScriptedEngine> {
  const engine = createScriptedEngine();
  return {
    ...engine,
    generate(request, { signal }) {
      const { outcome } = engine.generate(request, { signal });
      return {
        outcome,
        events: (async function* () {
          for (let i = 0; !signal.aborted; i++) {
            yield { index: 0, delta: { content: `word ${i} ` }, finish_reason: null };
            await new Promise((resolve) => {
              setTimeout(resolve, 10);
            });
          }
          onStop();
          throw Object.assign(new Error("stopped"), { code: "request_cancelled" });
        })(),
      };
    },
  };
}

/** The same gateway again, from its disk, on the same port. */
async function restart(of: TestGateway): Promise<{ restartedUrl: string; restarted: TestGateway }> {
  const [directory] = folders;
  await closing.shift()?.();
  const restarted = await startTestGateway({ directory: directory ?? "", operator, port: of.port });
  closing.unshift(() => restarted.close());
  return { restartedUrl: restarted.url, restarted };
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error("It never came true.");
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  }
}
