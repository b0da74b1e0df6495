import { createLocalEngine } from "@assay/driver-llm";
import type { LocalEngine } from "@assay/driver-llm";
import { bytesToHex } from "@assay/core";
import type { LanguageEngine } from "@assay/protocol";
import type { ReceiptView } from "@assay/receipts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { exchange, receiptOf } from "./chat-world.ts";
import {
  clientOf,
  digit,
  inferred,
  joinFleet,
  languageChild,
  nodesOf,
  offerOf,
  openFleet,
  startDouble,
  statementsOf,
  temporary,
  trustOf,
  until,
  verify,
  viewOf,
} from "./fleet-world.ts";
import type { Fleet, JoinedNode } from "./fleet-world.ts";

// Every answer is executed again by somebody else: share 1.

let fleet: Fleet;
let node: JoinedNode;
const scratch = temporary("doubles");
beforeAll(async () => {
  fleet = await openFleet({ auditShare: 1 });
});
afterAll(async () => {
  await node?.stop();
  await fleet?.close();
  scratch.remove();
});

/** The bundle of a receipt, once its audit is in it. */
async function audited(
  receiptId: string,
  grant: string,
): Promise<{ readonly bytes: Uint8Array; readonly view: ReceiptView }> {
  return until("the audit is in the bundle", async () => {
    const bytes = await clientOf(fleet.url).bundle(receiptId, { grant, waitMs: 5000 });
    const view = viewOf(bytes);
    return view.supplements.length > 0 && { bytes, view };
  });
}
const bodyOf = ({ supplements }: ReceiptView) => {
  const [supplement] = supplements;
  expect(supplement?.claims.kind).toBe("audit");
  return supplement?.claims.body as Readonly<Record<string, unknown>>;
};
async function infer(headers: Readonly<Record<string, string>>, i: number) {
  const client = clientOf(fleet.url, headers);
  const answer = await client.infer({ model: "demo/digits", inputs: [digit(i)] });
  return { ...answer, ...(await audited(answer.receiptId, answer.grant)) };
}
const chat = (country: string) =>
  exchange(fleet.url, "chat", {
    model: "demo/chat",
    messages: [{ role: "user", content: "What is 17 + 25?" }],
    temperature: 0,
    max_tokens: 16,
    assay: { jurisdiction: [country] },
  });

test("alone, nothing is audited and nothing is said of it", async () => {
  await inferred(fleet.url);
  const before = fleet.home.server.log.size();
  const one = await inferred(fleet.url, {}, 1);
  expect(one.view.supplements).toEqual([]);
  expect(fleet.home.server.log.size()).toBe(before + 1);
  node = await joinFleet(fleet, ["--jurisdiction", "DE"]);
});

test.each(["portable", "native"])(
  "tensors of a remote node are run again here, in the %s profile, and agree",
  async (profile) => {
    const { view, bytes } = await infer({ "assay-jurisdiction": "DE", "assay-profile": profile }, 2);
    expect(view.execution.statement.header.issuer).toBe(node.subject);
    const body = bodyOf(view);
    expect(body).toMatchObject({
      result: "agree",
      rule: profile === "portable" ? "portable-bytes" : "native-bytes-within-class",
      audited: node.subject,
      largestDifference: "0",
    });
    expect(body["auditor"]).not.toBe(node.subject);
    expect(body["responseRoot"]).toEqual(view.execution.claims.responseRoot);
    const verdict = await verify(trustOf(fleet.home.directory), bytes);
    expect(verdict.status, JSON.stringify(verdict.checks)).toBe("verified");
    // The second execution has a receipt of its own.
    const digest = bytesToHex(body["execution"] as Uint8Array);
    const all = await statementsOf(fleet.home.server.log);
    expect(all.find((one) => bytesToHex(one.digest) === digest)?.header).toMatchObject({
      kind: "execution",
      issuer: body["auditor"],
    });
  },
);

test("tensors of this process are run again on the remote node", async () => {
  await until("the local node answered", async () => {
    const { view } = await infer({ "assay-objective": "latency" }, 3);
    if (view.execution.statement.header.issuer === node.subject) return false;
    expect(bodyOf(view)).toMatchObject({ result: "agree", auditor: node.subject });
    return true;
  });
});

test("text of a remote node is checked again by one pass through the model here", async () => {
  const answered = await chat("DE");
  expect(answered.headers.get("assay-node")).toBe(node.subject);
  const { view } = await audited(answered.exchange.receiptId, answered.exchange.grant);
  expect(bodyOf(view)).toMatchObject({ result: "agree", rule: "llm-prefill", audited: node.subject });
  expect((await verify(trustOf(fleet.home.directory), await receiptOf(fleet.url, answered))).status).toBe("verified");
});

test("a node that answers other numbers is found: the disagreement is named, both records stay, it is turned out", async () => {
  const offer = await offerOf(fleet.url, "demo/digits");
  const liar = await startDouble(fleet, {
    directory: `${scratch.path}/tensors`,
    offers: [offer],
    country: "FR",
    // Whatever it is asked, it says the same.
    tensor: () =>
      Promise.resolve([
        { name: "label", datatype: "INT64", shape: [1], data: new Uint8Array(BigInt64Array.from([7n]).buffer) },
        {
          name: "probabilities",
          datatype: "FP32",
          shape: [1, 10],
          data: new Uint8Array(Float32Array.from({ length: 10 }, (_, i) => (i === 7 ? 1 : 0)).buffer),
        },
      ]),
  });
  try {
    const { view, bytes } = await infer({ "assay-jurisdiction": "FR" }, 4);
    expect(view.execution.statement.header.issuer).toBe(liar.subject);
    expect(bodyOf(view)).toMatchObject({ result: "disagree", rule: "portable-bytes", audited: liar.subject });
    expect(Number(bodyOf(view)["largestDifference"])).toBeGreaterThan(0.001);
    expect(bodyOf(view)["responseRoot"]).not.toEqual(view.execution.claims.responseRoot);
    const shown = await until("it is turned out", async () => {
      const found = (await nodesOf(fleet)).find(({ key }) => key === liar.key);
      return found?.["state"] === "ejected" && found;
    });
    expect(shown["audits"]).toMatchObject({ disagreed: 1 });
    await expect(inferred(fleet.url, { "assay-jurisdiction": "FR" })).rejects.toMatchObject({ code: "no_route" });
    const trust = await until("nobody believes it", () => {
      const found = trustOf(fleet.home.directory);
      return found.revoked.some(({ key }) => key === liar.key) && found;
    });
    expect((await verify(trust, bytes)).status).toBe("failed");
  } finally {
    await liar.close();
  }
});

test("a node that answers another question is found by its tokens", async () => {
  const { hub } = fleet.home.server;
  const { all } = await hub.materialise(hub.catalogue.resolve("demo/chat"));
  const engine = createLocalEngine(languageChild);
  const liar = await startDouble(fleet, {
    directory: `${scratch.path}/text`,
    offers: [await offerOf(fleet.url, "demo/chat")],
    country: "IT",
    files: all,
    engine: answersAnother(engine),
  });
  try {
    const answered = await chat("IT");
    expect(answered.status, JSON.stringify(answered.body)).toBe(200);
    expect(answered.headers.get("assay-node")).toBe(liar.subject);
    const { view } = await audited(answered.exchange.receiptId, answered.exchange.grant);
    expect(bodyOf(view)).toMatchObject({ result: "disagree", rule: "llm-prefill", audited: liar.subject });
    await until(
      "it is turned out",
      async () => (await nodesOf(fleet)).find(({ key }) => key === liar.key)?.["state"] === "ejected",
    );
    expect((await chat("IT")).body["code"]).toBe("no_route");
  } finally {
    await liar.close();
    await engine.close();
  }
});

/** An engine that is asked something and answers something else. */
function answersAnother(engine: LocalEngine): LanguageEngine {
  return {
    ...engine,
    generate: (request, options) =>
      engine.generate(
        request.kind === "chat"
          ? { ...request, messages: [{ role: "user", content: "What is the capital of Italy?" }] }
          : request,
        options,
      ),
  };
}
