import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findContradictions } from "@assay/receipts";
import { exchange, receiptOf } from "./chat-world.ts";
import { startNodeProcess } from "./fleet-process.ts";
import type { NodeProcess } from "./fleet-process.ts";
import {
  chainFaults,
  inferred,
  joinFleet,
  nodesOf,
  openFleet,
  statementsOf,
  trustOf,
  until,
  verify,
  viewOf,
} from "./fleet-world.ts";
import type { Fleet, JoinedNode } from "./fleet-world.ts";
import { stretchWire } from "./fleet-wire.ts";
import type { Wire } from "./fleet-wire.ts";

// Nodes that are killed: what a client sees of it, and what is in the log afterwards.

let fleet: Fleet;
let stays: JoinedNode;
let lost: JoinedNode;
let wire: Wire;
const started = new Set<NodeProcess>();
beforeAll(async () => {
  [fleet, wire] = await Promise.all([openFleet(), stretchWire()]);
  stays = await joinFleet(fleet, ["--jurisdiction", "FR"]);
  lost = await joinFleet(fleet, [
    "--name",
    "lost",
    "--jurisdiction",
    "FR",
    "--port",
    String(wire.port),
    "--public-url",
    wire.url,
  ]);
});
afterAll(async () => {
  for (const one of started) await one.kill();
  await lost?.stop();
  await stays?.stop();
  await wire?.close();
  await fleet?.close();
});

const startFated = async (): Promise<NodeProcess> => {
  const one = await startNodeProcess(fleet.home.directory, fleet.url, [
    "--name",
    "fated",
    "--models",
    "demo/digits,demo/chat",
    "--jurisdiction",
    "ES",
  ]);
  started.add(one);
  return one;
};
const ask = (country: string, stream: boolean, maxTokens = 8) =>
  exchange(fleet.url, "chat", {
    model: "demo/chat",
    messages: [{ role: "user", content: "What is 17 + 25?" }],
    temperature: 0,
    max_tokens: maxTokens,
    stream,
    assay: { jurisdiction: [country] },
  });
const back = () =>
  until("it is back", async () =>
    (await nodesOf(fleet)).some(({ key, liveness }) => key === lost.key && liveness === "alive"),
  );
type Try = { readonly candidate: string; readonly outcome: string };
const triesOf = (facts: unknown): readonly Try[] =>
  ((facts as { tries?: readonly Try[] }).tries ?? []) as readonly Try[];

describe("lost before its first byte", () => {
  test.each([
    ["tensors", "stop"],
    ["text", "length"],
    ["a stream of text", "length"],
  ])("%s: answered by another, and the service statement says so", async (what, end) => {
    wire.cut();
    // Both are equal to the router, so it comes to the one that is gone sooner or later.
    await until("it was asked", async () => {
      let bytes: Uint8Array;
      if (what === "tensors") ({ bytes } = await inferred(fleet.url, { "assay-jurisdiction": "FR" }));
      else {
        const answered = await ask("FR", what !== "text");
        expect(answered.status, JSON.stringify(answered.body)).toBe(200);
        bytes = await receiptOf(fleet.url, answered);
      }
      const { execution, service } = viewOf(bytes);
      expect(execution.statement.header.issuer).toBe(stays.subject);
      expect((await verify(trustOf(fleet.home.directory), bytes)).status).toBe("verified");
      const tries = triesOf(service?.claims.route?.facts);
      if (tries.length === 0) return false;
      expect(tries).toMatchObject([{ outcome: "node_lost" }, { outcome: end }]);
      expect(tries[0]?.candidate).toContain(lost.subject);
      return true;
    });
    wire.mend();
    // Its next heartbeat clears it.
    await back();
  });

  test("where nobody else may answer, that is what the caller hears, and nothing is stated", async () => {
    await fleet.cli(["node", "admit", lost.key, "--country", "FR"]);
    const before = fleet.home.server.log.size();
    const headers = { "assay-jurisdiction": "FR", "assay-jurisdiction-evidence": "registry" };
    const text = () =>
      exchange(fleet.url, "chat", {
        model: "demo/chat",
        messages: [{ role: "user", content: "Hello" }],
        assay: { jurisdiction: ["FR"], jurisdictionEvidence: "registry" },
      });
    wire.cut();
    const refused = await text();
    expect([refused.status, refused.body["code"]]).toEqual([503, "node_lost"]);
    // Until it is heard again it is given nothing.
    await expect(inferred(fleet.url, headers)).rejects.toMatchObject({ code: "nodes_unavailable" });
    wire.mend();
    await back();
    wire.cut();
    await expect(inferred(fleet.url, headers)).rejects.toMatchObject({ code: "node_lost" });
    expect((await text()).body["code"]).toBe("nodes_unavailable");
    expect(fleet.home.server.log.size()).toBe(before);
    wire.mend();
  });
});

test("killed in the middle of a stream: an error frame, no end, and a receipt that says so", async () => {
  const fated = await startFated();
  const response = await fetch(`${fleet.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "demo/chat",
      messages: [{ role: "user", content: "Tell me of the sea." }],
      // It may not end its answer.
      logit_bias: { 0: -100, 2: -100 },
      max_tokens: 400,
      stream: true,
      assay: { jurisdiction: ["ES"] },
    }),
  });
  expect([response.status, response.headers.get("assay-node")]).toEqual([200, fated.subject]);
  const reader = response.body?.getReader();
  let text = new TextDecoder().decode((await reader?.read())?.value);
  await fated.kill();
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read())
    text += new TextDecoder().decode(part.value);
  const events = text.split("\n\n").filter((event) => event.startsWith("data: "));
  expect(text).not.toContain("[DONE]");
  expect(JSON.parse(events.at(-1)?.slice("data: ".length) ?? "")).toMatchObject({ error: { code: "node_lost" } });

  const id = response.headers.get("assay-receipt-id") ?? "";
  const bundle = await fetch(`${fleet.url}/v1/receipts/${id}/bundle?waitMs=5000`, {
    headers: { "assay-grant": response.headers.get("assay-grant") ?? "" },
  });
  const bytes = new Uint8Array(await bundle.arrayBuffer());
  const { execution, service } = viewOf(bytes);
  const own = (await inferred(fleet.url, { "assay-max-price": "0" })).view.service?.statement.header.issuer;
  expect(execution.claims).toMatchObject({
    finishReason: "incomplete",
    transcript: { frames: events.length - 1 },
    upstream: { provider: "node", facts: { node: fated.subject } },
  });
  expect(execution.statement.header.issuer).not.toBe(fated.subject);
  expect(execution.statement.header.issuer).toMatch(/^urn:assay:node:/);
  expect(service?.statement.header.issuer).toBe(own);
  expect((await verify(trustOf(fleet.home.directory), bytes)).status).toBe("verified");

  // It comes back under its own name, and its chain goes on.
  const back = await startFated();
  expect(back.subject).toBe(fated.subject);
  const after = await inferred(fleet.url, { "assay-jurisdiction": "ES" });
  expect(after.view.execution.statement.header.issuer).toBe(fated.subject);
  expect(await back.stop()).toBe(0);
  const all = await statementsOf(fleet.home.server.log);
  expect([chainFaults(all), findContradictions(all)]).toEqual([[], []]);
});
