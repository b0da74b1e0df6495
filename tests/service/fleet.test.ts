import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, receiptOf } from "./chat-world.ts";
import type { Exchanged } from "./chat-world.ts";
import { inferred, joinFleet, nodesOf, openFleet, temporary, trustOf, until, verify, viewOf } from "./fleet-world.ts";
import type { Fleet, JoinedNode } from "./fleet-world.ts";
import { ask } from "./running-server.ts";
import type { Json } from "./running-server.ts";

// One home with its gateway, and `assay node` beside it.

let fleet: Fleet;
let german: JoinedNode;
beforeAll(async () => {
  fleet = await openFleet();
  german = await joinFleet(fleet, ["--jurisdiction", "DE", "--per-call", "0.01"]);
});
afterAll(async () => {
  await german?.stop();
  await fleet?.close();
});

const chat = (routing?: Json, more: Json = {}): Promise<Exchanged> =>
  exchange(fleet.url, "chat", {
    model: "demo/chat",
    messages: [{ role: "user", content: "What is 17 + 25?" }],
    temperature: 0,
    max_tokens: 24,
    ...(routing ? { assay: routing } : {}),
    ...more,
  });

describe("a node of the same home", () => {
  test("is let in by the operator's countersignature, and says what it offers and where it is", async () => {
    const [shown] = await nodesOf(fleet);
    expect(shown).toMatchObject({
      key: german.key,
      subject: german.subject,
      state: "active",
      role: "node",
      admittedBy: "owner",
    });
    expect(shown?.["advertisement"]).toMatchObject({
      jurisdiction: { country: "DE", evidence: "declared" },
      cpuClass: german.node.cpuClass,
      offers: [
        { engine: "onnx", model: "demo/digits", kinds: ["tensor"], price: { perCall: "0.01" } },
        { engine: "local", model: "demo/chat", kinds: ["chat", "completion"], price: { perCall: "0.01" } },
      ],
    });
    const { out } = await fleet.cli(["node", "ls"]);
    expect(out).toContain(german.subject);
    expect(out).toContain("DE (declared)");
  });

  test("runs text that has to stay in the EU, and signs it itself", async () => {
    for (const stream of [false, true]) {
      const answered = await chat({ jurisdiction: ["EU"] }, { stream });
      expect(answered.status, JSON.stringify(answered.body)).toBe(200);
      expect(answered.headers.get("assay-node")).toBe(german.subject);
      const bytes = await receiptOf(fleet.url, answered);
      const view = viewOf(bytes);
      expect(view.execution.statement.header.issuer).toBe(german.subject);
      expect(view.execution.claims.modelDigestCheck).toBe("hashed-at-load");
      expect((await verify(trustOf(fleet.home.directory), bytes)).status).toBe("verified");
    }
  });

  test("its receipt is checked again by the program, token by token", async () => {
    const { code, out, err } = await fleet.cli([
      "chat",
      "What is 17 + 25?",
      "--model",
      "demo/chat",
      "--jurisdiction",
      "EU",
      "--json",
    ]);
    expect(code, err).toBe(0);
    const { path } = JSON.parse(out) as { path: string };
    const again = await fleet.cli(["verify", path, "--reexecute"]);
    expect(again, again.out + again.err).toMatchObject({ code: 0 });
  });

  test("runs tensors that have to stay in the EU", async () => {
    const { bytes, view, label } = await inferred(fleet.url, { "assay-jurisdiction": "EU" });
    expect(view.execution.statement.header.issuer).toBe(german.subject);
    expect((await verify(trustOf(fleet.home.directory), bytes)).status).toBe("verified");
    const here = await inferred(fleet.url, { "assay-max-price": "0" });
    expect(here.label).toBe(label);
    expect(here.view.execution.statement.header.issuer).not.toBe(german.subject);
  });
});

type Explained = {
  readonly candidates: readonly { readonly node: string; readonly outcome: string }[];
  readonly choice: { readonly node: string } | null;
  readonly refusal: { readonly code: string } | null;
};
const explain = async (assay: Json, model = "demo/chat"): Promise<Explained> =>
  (
    await ask(fleet.url, "/v1/route/explain", {
      token: fleet.token,
      json: { model, kind: "chat", max_tokens: 8, assay },
    })
  ).body as unknown as Explained;
const outcomes = async (assay: Json): Promise<readonly (readonly [boolean, string])[]> =>
  (await explain(assay)).candidates.map(({ node, outcome }) => [node === german.subject, outcome] as const);

describe("where work goes", () => {
  test("without wishes both nodes may answer, and over some requests both do", async () => {
    expect((await outcomes({})).map(([, outcome]) => outcome.replace("chosen", "eligible"))).toEqual([
      "eligible",
      "eligible",
    ]);
    const answered = new Set<string>();
    await until("both nodes answered", async () => {
      answered.add(
        (await inferred(fleet.url, { "assay-max-price": "1" }, answered.size)).view.execution.statement.header.issuer,
      );
      return answered.size === 2;
    });
  });

  test.each([
    ["a country elsewhere", { jurisdiction: ["FR"] }, "jurisdiction", "jurisdiction"],
    [
      "evidence that nobody has",
      { jurisdiction: ["DE"], jurisdictionEvidence: "attested" },
      "jurisdiction",
      "jurisdiction_evidence",
    ],
    ["a processor that nobody has", { cpuClass: "00".repeat(32) }, "cpu_class", "cpu_class"],
    ["a family that it is not of", { family: "something-else" }, "family", "family"],
    ["a price below zero's nothing", { maxPrice: "0.001", jurisdiction: ["EU"] }, "jurisdiction", "price"],
    ["an assurance that nobody gives", { mode: "tee" }, "mode", "mode"],
  ] as const)("%s leaves nobody, and is not relaxed", async (_name, assay, local, remote) => {
    expect(await outcomes(assay)).toEqual(
      expect.arrayContaining([
        [false, `refused:${local}`],
        [true, `refused:${remote}`],
      ]),
    );
    const refused = await chat(assay);
    expect([refused.status, refused.body["code"]]).toEqual(
      "mode" in assay ? [422, "assurance_unavailable"] : [422, "no_route"],
    );
    const headers = {
      ...("jurisdiction" in assay ? { "assay-jurisdiction": assay.jurisdiction.join(",") } : {}),
      ...("jurisdictionEvidence" in assay ? { "assay-jurisdiction-evidence": assay.jurisdictionEvidence } : {}),
      ...("cpuClass" in assay ? { "assay-cpu-class": assay.cpuClass } : {}),
      ...("family" in assay ? { "assay-family": assay.family } : {}),
      ...("maxPrice" in assay ? { "assay-max-price": assay.maxPrice } : {}),
      ...("mode" in assay ? { "assay-mode": assay.mode } : {}),
    };
    await expect(inferred(fleet.url, headers as Record<string, string>)).rejects.toMatchObject({
      code: "mode" in assay ? "assurance_unavailable" : "no_route",
    });
  });

  test("the processor's class leaves both where both run on one machine", async () => {
    await until("this process knows its processor", async () =>
      (await outcomes({ cpuClass: german.node.cpuClass })).every(([, outcome]) => !outcome.startsWith("refused")),
    );
  });

  test("a price limit leaves the free one, a latency limit whoever is expected to keep it", async () => {
    expect(await outcomes({ maxPrice: "0.001" })).toEqual(
      expect.arrayContaining([
        [false, "chosen"],
        [true, "refused:price"],
      ]),
    );
    expect((await chat({ maxLatencyMs: 1 })).body["code"]).toBe("no_route");
    expect((await chat({ maxLatencyMs: 600_000 })).status).toBe(200);
  });

  test("the service statement names price, country and every candidate with its outcome", async () => {
    const { view } = await inferred(fleet.url, { "assay-jurisdiction": "EU" });
    const claims = view.service?.claims;
    expect(claims?.price).toMatchObject({ amountAtomic: "10000", asset: "USD" });
    expect(claims?.route).toMatchObject({ chosen: german.subject });
    expect(claims?.route?.candidates?.map(({ outcome }) => outcome).toSorted()).toEqual([
      "chosen",
      "refused:jurisdiction",
    ]);
  });
});

describe("the operator decides", () => {
  test("a drained node gets nothing new and finishes what it runs; a hard limit then has nobody", async () => {
    const long = await fetch(`${fleet.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "demo/chat",
        messages: [{ role: "user", content: "Tell me of the sea." }],
        max_tokens: 200,
        temperature: 2,
        stream: true,
        assay: { jurisdiction: ["EU"] },
      }),
    });
    // Its first frame is here, so it runs.
    expect([long.status, long.headers.get("assay-node")]).toEqual([200, german.subject]);
    expect(await fleet.cli(["node", "drain", german.key])).toMatchObject({ code: 0 });
    const refused = await chat({ jurisdiction: ["EU"] });
    expect([refused.status, refused.body["code"]]).toEqual([503, "nodes_unavailable"]);
    expect((await chat()).headers.get("assay-node")).not.toBe(german.subject);
    expect(await long.text()).toMatch(/data: \[DONE\]\n\n$/);
    expect(await fleet.cli(["node", "admit", german.key, "--country", "DE"])).toMatchObject({ code: 0 });
    expect(
      (await outcomes({ jurisdiction: ["DE"], jurisdictionEvidence: "registry" })).find(([remote]) => remote)?.[1],
    ).toBe("chosen");
  });

  test("a node of another home waits until it is admitted, or brings an invite", async () => {
    const elsewhere = temporary("elsewhere");
    try {
      const waiting = await joinFleet(fleet, ["--name", "waiting"], { home: elsewhere.path, models: "demo/digits" });
      expect(waiting.node.state()).toBe("pending");
      expect((await nodesOf(fleet)).find(({ key }) => key === waiting.key)?.["state"]).toBe("pending");
      expect(JSON.stringify(await explain({}))).not.toContain(waiting.subject);
      const admitted = await fleet.cli(["node", "admit", waiting.key, "--json"]);
      expect(JSON.parse(admitted.out)).toMatchObject({ key: waiting.key, state: "active" });
      await until("it heard", () => waiting.node.state() === "active");
      await waiting.node.pulled;

      const invite = JSON.parse((await fleet.cli(["node", "invite", "--json"])).out) as { invite: string };
      const invited = await joinFleet(fleet, ["--name", "invited", "--invite", invite.invite, "--jurisdiction", "FR"], {
        home: elsewhere.path,
        models: "demo/digits",
      });
      expect(invited.node.state()).toBe("active");
      const french = await inferred(fleet.url, { "assay-jurisdiction": "FR" });
      expect(french.view.execution.statement.header.issuer).toBe(invited.subject);
      expect((await verify(trustOf(fleet.home.directory), french.bytes)).status).toBe("verified");
      await expect(
        joinFleet(fleet, ["--name", "again", "--invite", invite.invite], {
          home: elsewhere.path,
          models: "demo/digits",
        }),
      ).rejects.toThrow(/invite_invalid/);

      const left = await invited.stop();
      expect(left, left.err).toMatchObject({ code: 0 });
      await waiting.stop();
    } finally {
      elsewhere.remove();
    }
  });

  test("a node that leaves is asked nothing any more; one that only stops is away until it is back", async () => {
    const home = temporary("leaving");
    try {
      const { invite } = JSON.parse((await fleet.cli(["node", "invite", "--json"])).out) as { invite: string };
      const leaving = await joinFleet(fleet, ["--invite", invite, "--jurisdiction", "IT", "--leave"], {
        home: home.path,
        models: "demo/digits",
      });
      expect((await inferred(fleet.url, { "assay-jurisdiction": "IT" })).view.execution.statement.header.issuer).toBe(
        leaving.subject,
      );
      await leaving.stop();
      expect((await nodesOf(fleet)).find(({ key }) => key === leaving.key)?.["state"]).toBe("left");
      await expect(inferred(fleet.url, { "assay-jurisdiction": "IT" })).rejects.toMatchObject({ code: "no_route" });
    } finally {
      home.remove();
    }
  });

  test("an ejected node gets nothing, and what it signed is not trusted, until it is admitted again", async () => {
    const before = await inferred(fleet.url, { "assay-jurisdiction": "DE" });
    expect(before.view.execution.statement.header.issuer).toBe(german.subject);
    const ejected = await fleet.cli(["node", "eject", german.key, "--reason", "answers differ", "--json"]);
    expect(JSON.parse(ejected.out)).toMatchObject({ state: "ejected" });
    await expect(inferred(fleet.url, { "assay-jurisdiction": "DE" })).rejects.toMatchObject({ code: "no_route" });
    const trust = await until("the trust file says so", () => {
      const found = trustOf(fleet.home.directory);
      return found.revoked.some(({ key }) => key === german.key) && found;
    });
    // Without a witness nobody knows when it was logged, so it counts as signed after.
    const verdict = await verify(trust, before.bytes);
    expect([verdict.status, verdict.checks.map(({ code }) => code)]).toEqual([
      "failed",
      expect.arrayContaining(["keyset_revoked"]),
    ]);
    const back = await fleet.cli(["node", "admit", german.key, "--json"]);
    expect(JSON.parse(back.out)).toMatchObject({ state: "active" });
    const again = await until("the trust file has no revocation any more", () => {
      const found = trustOf(fleet.home.directory);
      return found.revoked.length === 0 && found;
    });
    expect((await verify(again, before.bytes)).status).toBe("verified");
  });
});

test("what a node may not be called, offered or told is refused before anything starts", async () => {
  const join = (...more: readonly string[]) =>
    fleet.cli(["node", "--join", fleet.url, "--models", "demo/digits", ...more]);
  expect(await join("--jurisdiction", "Germany")).toMatchObject({ code: 2 });
  expect(await join("--name", "../outside")).toMatchObject({ code: 2 });
  const missing = await fleet.cli(["node", "--join", fleet.url, "--models", "demo/nothing", "--debug"]);
  expect([missing.code, missing.err.includes("model_not_found")]).toEqual([1, true]);
  expect((await fleet.cli(["node", "admit", "00".repeat(32), "--debug"])).err).toContain("node_not_found");
});
