import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startEmbeddedPostgres } from "@assay/driver-postgres";
import type { EmbeddedPostgres } from "@assay/driver-postgres";
import { findContradictions } from "@assay/receipts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, modelFiles, receiptOf } from "./chat-world.ts";
import {
  chainFaults,
  clientOf,
  inferred,
  languageChild,
  openFleet,
  ortChild,
  ROOT,
  statementsOf,
  temporary,
  trustOf,
  until,
  verify,
  viewOf,
} from "./fleet-world.ts";
import type { Fleet } from "./fleet-world.ts";
import { ask, mintToken, openHome, release } from "./running-server.ts";
import type { ServerHome } from "./running-server.ts";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import type { RunningServer } from "../../apps/assay/src/server/start-server.ts";

// Two gateways over one database: the first has the log's files, the second writes to it.

let postgres: EmbeddedPostgres;
let first: Fleet;
let second: ServerHome;
let secondToken: string;
/** The first, once it was started again; its home is the fleet's. */
let again: RunningServer | undefined;
const scratch = temporary("peer");
beforeAll(async () => {
  postgres = await startEmbeddedPostgres({ directory: join(scratch.path, "database") });
  first = await openFleet({ databaseUrl: postgres.url });
  const { out } = await first.cli(["node", "invite", "--json"]);
  const { invite } = JSON.parse(out) as { invite: string };
  second = await openHome({
    ...ortChild(),
    languageChild,
    auditShare: 0,
    databaseUrl: postgres.url,
    peer: { url: first.url, invite },
  });
  await second.server.databaseReady;
  secondToken = await mintToken(second.server.url, second.operator);
});
afterAll(async () => {
  await second?.close();
  await again?.close();
  await first?.close();
  await postgres?.close();
  scratch.remove();
});

const chatAt = (url: string) =>
  exchange(url, "chat", {
    model: "demo/chat",
    messages: [{ role: "user", content: "What is 17 + 25?" }],
    temperature: 0,
    max_tokens: 8,
  });
const ready = async (url: string) => {
  const { status, body } = await ask(url, "/readyz");
  return { status, reasons: body["reasons"] as readonly string[] };
};

test("a gateway with a log of its own on a database that follows another says so, until the index is rebuilt", async () => {
  const shared = await startEmbeddedPostgres({ directory: join(scratch.path, "shared") });
  const other = await openFleet({ databaseUrl: shared.url });
  await inferred(other.url);
  await other.home.server.databaseReady;
  await other.close();
  const strange = await openHome({ ...ortChild(), databaseUrl: shared.url });
  try {
    await strange.server.databaseReady;
    const told = await until("it says so", async () => {
      const found = await ready(strange.server.url);
      return found.status === 503 && found;
    });
    expect(told.reasons.join()).toContain("ahead of this log");
    await strange.server.rebuildIndex();
    expect((await ready(strange.server.url)).status).toBe(200);
  } finally {
    await strange.close();
    await shared.close();
  }
});

describe("a second gateway", () => {
  test("needs to be let in", async () => {
    await expect(
      openHome({ ...ortChild(), languageChild, databaseUrl: postgres.url, peer: { url: first.url } }),
    ).rejects.toMatchObject({
      code: "node_pending",
      hints: [expect.any(String), expect.stringContaining("assay node admit")],
    });
    await expect(
      openHome({ ...ortChild(), languageChild, databaseUrl: postgres.url, peer: { url: first.url, invite: "no" } }),
    ).rejects.toMatchObject({ code: "invite_invalid" });
    expect((await ask(first.url, "/v1/nodes", { token: first.token })).body["nodes"]).toEqual(
      expect.arrayContaining([expect.objectContaining({ role: "gateway", state: "active" })]),
    );
  });

  test("serves what the first one released, before and after it started", async () => {
    const { url } = second.server;
    expect((await clientOf(url).model("demo/digits")).version).toBe(1);
    const bench = { path: "model.onnx", bytes: new Uint8Array(readFileSync(join(ROOT, "models/bench/tiny-mlp.onnx"))) };
    expect((await release(first.url, first.token, "late/tiny", [bench])).status).toBe(200);
    await until("it is there", async () => (await ask(url, "/v1/models/late%2Ftiny")).status === 200);
    const inputs = [{ name: "x", datatype: "FP32", shape: [1, 16], data: Array.from({ length: 16 }, () => 0.5) }];
    const { status, body } = await ask(url, "/v2/models/late%2Ftiny/infer", { json: { inputs } });
    expect([status, Object.keys(body)]).toEqual([200, expect.arrayContaining(["outputs"])]);
    expect(existsSync(join(second.directory, "log", "checkpoint"))).toBe(false);
  });

  test("what it answers leaves receipts in the first one's log, which verify by either's trust", async () => {
    const answered = await chatAt(second.server.url);
    expect(answered.status, JSON.stringify(answered.body)).toBe(200);
    const tensors = await inferred(second.server.url);
    const own = (await clientOf(second.server.url).trust()).identities;
    for (const bytes of [await receiptOf(second.server.url, answered), tensors.bytes]) {
      const view = viewOf(bytes);
      expect(own.map(({ subject }) => subject)).toContain(view.execution.statement.header.issuer);
      for (const directory of [first.home.directory, second.directory]) {
        const verdict = await verify(trustOf(directory), bytes);
        expect(verdict.status, JSON.stringify(verdict.checks)).toBe("verified");
      }
    }
    // The first one knows the receipt too, and each verifies what the other answered.
    const { receiptId, grant } = answered.exchange;
    const there = await clientOf(first.url).bundle(receiptId, { grant, waitMs: 5000 });
    expect((await verify(trustOf(first.home.directory), there)).status).toBe("verified");
    const here = await inferred(first.url);
    expect((await verify(trustOf(second.directory), here.bytes)).status).toBe("verified");
  });

  test("releases nothing, and says where that is done", async () => {
    const refused = await release(second.server.url, secondToken, "demo/mine", modelFiles("models/chat"));
    expect([refused.status, refused.body["code"]]).toEqual([409, "release_elsewhere"]);
    expect(JSON.stringify(refused.body)).toContain(first.url);
    expect((await ask(second.server.url, "/v1/models/demo%2Fmine")).status).toBe(404);
  });

  test("while the first one is away it answers nothing, says so, and goes on when it is back", async () => {
    const { port } = new URL(first.url);
    const before = await inferred(second.server.url, {}, 7);
    await first.home.server.close();
    const send = (stream: boolean) =>
      fetch(`${second.server.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          model: "demo/chat",
          messages: [{ role: "user", content: "Hello" }],
          max_tokens: 4,
          stream,
        }),
      });
    const [refused, streamed] = await Promise.all([send(false), send(true)]);
    expect([refused.status, (await refused.json()) as object]).toMatchObject([503, { code: "log_unreachable" }]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    const frames = await streamed.text();
    expect(frames).not.toContain("[DONE]");
    expect(frames).toMatch(/"code":"log_unreachable"[^\n]*\n\n$/);
    const state = await ready(second.server.url);
    expect([state.status, state.reasons.join()]).toEqual([503, expect.stringContaining(first.url)]);

    again = await startServer({
      ...ortChild(),
      languageChild,
      home: first.home.directory,
      host: "127.0.0.1",
      port: Number(port),
      databaseUrl: postgres.url,
      seed: false,
      auditShare: 0,
      version: "0.0.0-test",
      logLevel: "silent",
    });
    await until("both are ready", async () => (await ready(second.server.url)).status === 200);
    const after = await inferred(second.server.url, {}, 8);
    expect((await verify(trustOf(first.home.directory), after.bytes)).status).toBe("verified");
    expect((await inferred(again.url, {}, 9)).receiptId).not.toBe(after.receiptId);
    const all = await statementsOf(again.log);
    const subjects = all.filter(({ header }) => header.kind === "execution").map(({ header }) => header.subject);
    for (const { receiptId } of [before, after])
      expect(subjects.filter((subject) => subject.endsWith(receiptId))).toHaveLength(1);
    expect([chainFaults(all), findContradictions(all)]).toEqual([[], []]);
  });
});
