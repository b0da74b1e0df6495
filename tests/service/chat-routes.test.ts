import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import type { ServiceClaims } from "@assay/receipts";
import {
  ANTHROPIC_MODEL,
  anthropicHandler,
  OPENAI_MODELS,
  openAiHandler,
  sendJson,
  serveWire,
} from "@assay/testkit/upstream";
import type { WireServer } from "@assay/testkit/upstream";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { exchange, openChatHome, receipted, restart } from "./chat-world.ts";
import type { ChatHome, Exchanged } from "./chat-world.ts";
import { ask, mintToken } from "./running-server.ts";
import type { Json } from "./running-server.ts";

// Who answers: hub models, upstreams over real sockets, names of the operator, limits that are never relaxed.

const KEY = "sk-very-secret-0123456789abcdefghij";
const OTHER_KEY = "sk-another-secret-9876543210zyxwvuts";
const QUESTION = [{ role: "user", content: "What is 17 + 25?" }];

let chat: ChatHome;
let little: WireServer;
let broken: WireServer;
beforeAll(async () => {
  chat = await openChatHome();
  little = await serveWire(openAiHandler);
  broken = await serveWire((_, response) => sendJson(response, 500, { error: { message: "down" } }));
});
afterAll(async () => {
  await chat.home.close();
  await little.close();
  await broken.close();
});

const admin = (method: string, path: string, json?: unknown, token: string | undefined = chat.token) =>
  fetch(chat.url + path, {
    method,
    headers: {
      ...(json === undefined ? {} : { "content-type": "application/json" }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
  });
const done = async (answer: Promise<Response>): Promise<Json> => {
  const response = await answer;
  const text = await response.text();
  if (!response.ok)
    throw new Error(
      `${response.url}: ${text} ${chat.home.lines.filter((line) => line.includes('"level":50')).join("")}`,
    );
  return text === "" ? {} : (JSON.parse(text) as Json);
};
const addUpstream = (body: Json) => done(admin("POST", "/v1/upstreams", { replace: true, ...body }));
const addLittle = (more: Json = {}) =>
  addUpstream({ name: "little", kind: "openai-compatible", baseUrl: `${little.url}/v1`, apiKey: KEY, ...more });
const setContract = (name: string, body: Json) => done(admin("PUT", `/v1/contracts/${name}`, body));

beforeEach(async () => {
  for (const [path, list] of [
    ["/v1/upstreams", "upstreams"],
    ["/v1/contracts", "contracts"],
  ] as const) {
    const found = (await done(admin("GET", path)))[list] as readonly { readonly name: string }[];
    for (const { name } of found) await done(admin("DELETE", `${path}/${name}`));
  }
});

const textOf = ({ body }: Pick<Exchanged, "body">): string => {
  const [choice] = body["choices"] as readonly {
    readonly message?: { readonly content: string };
    readonly text?: string;
  }[];
  return choice?.message?.content ?? choice?.text ?? "";
};
const serviceOf = (of: Awaited<ReturnType<typeof receipted>>): ServiceClaims => {
  if (!of.view.service) throw new Error("There is no service statement.");
  return of.view.service.claims;
};
const asked = (model: string, more: Json = {}): Json => ({ model, messages: QUESTION, temperature: 0, ...more });
const refusal = async (request: Json, headers: Readonly<Record<string, string>> = {}) => {
  const before = chat.home.server.log.size();
  const { status, body } = await exchange(chat.url, "chat", request, headers);
  expect(chat.home.server.log.size()).toBe(before);
  return [status, body["code"]];
};

describe("an upstream", () => {
  test("answers in every dialect, and its receipt says what was seen and what was not", async () => {
    await addLittle();
    const answered = await receipted(chat, "chat", asked("little/little-chat"));
    expect(textOf(answered)).not.toBe("");
    const { claims } = answered.view.execution;
    expect(claims).toMatchObject({
      kind: "chat",
      modelName: "little/little-chat",
      mode: "vanilla",
      runtime: { profile: "upstream", provider: "openai-compatible" },
      upstream: { provider: "openai-compatible", modelReported: OPENAI_MODELS.chat },
    });
    expect([claims.modelDigest, claims.modelVersion]).toEqual([undefined, undefined]);
    expect(little.requests.at(-1)?.headers.authorization).toBe(`Bearer ${KEY}`);

    for (const [dialect, request] of [
      ["chat", asked("little/little-chat", { stream: true })],
      ["chat", asked("little/little-chat", { stream: true, logprobs: true, top_logprobs: 2, n: 2 })],
      ["chat", asked("little/little-chat", { response_format: { type: "json_object" } })],
      ["completions", { model: "little/little-instruct", prompt: "Once", stream: true }],
      ["completions", { model: "little/little-instruct", prompt: "Once" }],
      ["responses", { model: "little/little-chat", input: "Hello", stream: true }],
      ["embeddings", { model: "little/little-embed", input: ["one", "two"] }],
    ] as const) {
      const { view } = await receipted(chat, dialect, request as Json);
      expect(view.execution.claims.runtime).toMatchObject({ profile: "upstream" });
    }
  });

  test("is asked with tools and gives its calls, streamed", async () => {
    await addLittle();
    const tools = [
      {
        type: "function",
        function: { name: "add", parameters: { type: "object", properties: { a: { type: "integer" } } } },
      },
    ];
    const { body } = await receipted(
      chat,
      "chat",
      asked("little/little-chat", { tools, tool_choice: "required", stream: true }),
    );
    expect(JSON.stringify(body["choices"])).toContain('"name":"add"');
  });

  test("of another kind speaks its own API behind the same one", async () => {
    const other = await serveWire(anthropicHandler);
    try {
      await addUpstream({ name: "claude", kind: "anthropic", baseUrl: other.url, apiKey: KEY });
      const { body, view } = await receipted(
        chat,
        "chat",
        asked(`claude/${ANTHROPIC_MODEL}`, { temperature: undefined, max_tokens: 20 }),
      );
      expect(textOf({ body })).not.toBe("");
      expect(view.execution.claims.upstream).toMatchObject({ provider: "anthropic" });
    } finally {
      await other.close();
    }
  });

  test("is found by the bare name of its model, while that is one upstream's alone", async () => {
    await addLittle();
    expect((await receipted(chat, "chat", asked("little-chat"))).body["model"]).toBe("little/little-chat");
    const listed = (await ask(chat.url, "/v1/models")).body["data"] as readonly { readonly id: string }[];
    expect(listed.map(({ id }) => id)).toContain("little/little-chat");
    await addLittle({ name: "twin" });
    expect(await refusal(asked("little-chat"))).toEqual([400, "model_ambiguous"]);
    await receipted(chat, "chat", asked("twin/little-chat"));
    await done(admin("DELETE", "/v1/upstreams/twin"));
    await receipted(chat, "chat", asked("little-chat"));
    await done(admin("DELETE", "/v1/upstreams/little"));
    expect(await refusal(asked("little-chat"))).toEqual([404, "model_not_found"]);
    expect(await refusal(asked("little/little-chat"))).toEqual([404, "model_not_found"]);
  });

  test("that refuses, is down, or is no upstream at all is told by code, without its words about keys", async () => {
    await addLittle({ apiKey: "sk-refused-0123456789abcdef" });
    const unauthorized = await exchange(chat.url, "chat", asked("little/little-chat"));
    expect([unauthorized.status, unauthorized.body["code"]]).toEqual([502, "upstream_unauthorized"]);
    expect(JSON.stringify(unauthorized.body)).not.toContain("sk-refused");
    await addUpstream({ name: "broken", kind: "openai-compatible", baseUrl: `${broken.url}/v1` });
    expect(await refusal(asked("broken/m"))).toEqual([502, "upstream_failed"]);
    await addUpstream({ name: "nobody", kind: "openai-compatible", baseUrl: "http://127.0.0.1:1/v1" });
    expect(await refusal(asked("nobody/m"))).toEqual([502, "upstream_unreachable"]);
    await addLittle();
    expect(await refusal(asked("little/none-such"))).toEqual([404, "model_not_found"]);
    expect(chat.home.lines.join("\n")).not.toContain("sk-refused");
  });

  test("has a key that stands nowhere in clear: no file, line, list, error or receipt", async () => {
    const added = await addLittle();
    await addLittle({ name: "second", apiKey: OTHER_KEY });
    const { bytes } = await receipted(chat, "chat", asked("little/little-chat"));
    await receipted(chat, "chat", asked("second/little-chat", { stream: true }));
    const shown = [
      added,
      await done(admin("GET", "/v1/upstreams")),
      (await admin("POST", "/v1/upstreams", {
        name: "little",
        kind: "openai-compatible",
        baseUrl: "ftp://x",
        apiKey: KEY,
      }).then((r) => r.text())) as unknown as Json,
    ];
    const texts = [JSON.stringify(shown), chat.home.lines.join("\n"), Buffer.from(bytes).toString("latin1")];
    const files = filesBelow(chat.home.directory);
    expect(files.some((path) => path.endsWith("upstreams.json"))).toBe(true);
    for (const path of files) texts.push(readFileSync(path, "latin1"));
    for (const key of [KEY, OTHER_KEY]) {
      const forms = [key, Buffer.from(key).toString("base64").replace(/=+$/, ""), Buffer.from(key).toString("hex")];
      for (const form of forms) expect(texts.filter((text) => text.includes(form))).toEqual([]);
    }
  });

  test("is the operator's to add, and nobody else's", async () => {
    const body = { name: "mine", kind: "openai-compatible", baseUrl: `${little.url}/v1` };
    expect(
      (
        await fetch(`${chat.url}/v1/upstreams`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        })
      ).status,
    ).toBe(401);
    const stranger = await mintToken(chat.url, ed25519Signer(randomSeed()));
    for (const [method, path, json] of [
      ["POST", "/v1/upstreams", body],
      ["GET", "/v1/upstreams", undefined],
      ["DELETE", "/v1/upstreams/little", undefined],
      ["PUT", "/v1/contracts/x", { models: ["demo/chat"] }],
      ["GET", "/v1/contracts", undefined],
      ["PUT", "/v1/assurance-policy", { version: 1, tiers: [{ upTo: null, assurance: "vanilla" }] }],
    ] as const)
      expect((await admin(method, path, json, stranger)).status, `${method} ${path}`).toBe(403);
  });

  test.each<readonly [string, Json, string]>([
    ["a name that is taken", { name: "little", replace: false }, "upstream_exists"],
    ["a name with a meaning of its own", { name: "local" }, "request_invalid"],
    ["a plain address elsewhere", { baseUrl: "http://192.0.2.1/v1" }, "upstream_invalid"],
    ["a key in the address", { baseUrl: "https://user:pass@example.org/v1" }, "upstream_invalid"],
    ["a key of two lines", { apiKey: "sk-a\nsk-b" }, "request_invalid"],
    ["a member that is none", { colour: "red" }, "request_invalid"],
    ["no address", { baseUrl: undefined }, "upstream_invalid"],
  ])("with %s is refused", async (_, more, code) => {
    await addLittle();
    const base = { name: "other", kind: "openai-compatible", baseUrl: `${little.url}/v1` };
    const response = await admin("POST", "/v1/upstreams", { ...base, ...more });
    const body = (await response.json()) as Json;
    expect([response.ok, body["code"]], JSON.stringify(body)).toEqual([false, code]);
    expect((await done(admin("GET", "/v1/upstreams")))["upstreams"]).toHaveLength(1);
  });
});

describe("a name of the operator's own", () => {
  test("stays what applications ask for while the model behind it is replaced; only the receipt tells", async () => {
    await setContract("support", { models: ["demo/chat"] });
    const before = await receipted(chat, "chat", asked("support"));
    expect(before.view.execution.claims).toMatchObject({ modelName: "demo/chat", runtime: { profile: "llm" } });
    expect(serviceOf(before).route).toMatchObject({ facts: { contract: "support" } });

    await addLittle();
    await setContract("support", { models: ["little/little-chat"] });
    const after = await receipted(chat, "chat", asked("support"));
    expect(after.view.execution.claims).toMatchObject({
      modelName: "little/little-chat",
      runtime: { profile: "upstream" },
    });
    // The same request, and an answer of the same form: one client reads both.
    const form = ({ body }: Exchanged) =>
      Object.keys(body)
        .filter((key) => key !== "system_fingerprint")
        .toSorted();
    expect(form(after)).toEqual(form(before));
    expect(Buffer.from(after.exchange.request).toString()).toBe(Buffer.from(before.exchange.request).toString());
    const streamed = await receipted(chat, "chat", asked("support", { stream: true }));
    expect(textOf(streamed)).toBe(textOf(after));

    await done(admin("DELETE", "/v1/contracts/support"));
    expect(await refusal(asked("support"))).toEqual([404, "model_not_found"]);
  });

  test("is listed like a model, and may be for some kinds of work alone", async () => {
    await setContract("vectors", { models: ["demo/embed"], kinds: ["embedding"] });
    await receipted(chat, "embeddings", { model: "vectors", input: "a receipt" });
    expect(await refusal(asked("vectors"))).toEqual([400, "kind_unsupported"]);
    const listed = (await ask(chat.url, "/v1/models")).body["data"] as readonly { readonly id: string }[];
    expect(listed.map(({ id }) => id)).toContain("vectors");
  });

  test("goes to another of its models when one fails before its first byte", async () => {
    await addUpstream({ name: "broken", kind: "openai-compatible", baseUrl: `${broken.url}/v1` });
    await setContract("robust", { models: ["broken/m", "demo/chat"] });
    for (let i = 0; i < 4; i++) {
      const { view } = await receipted(chat, "chat", asked("robust", { stream: i % 2 === 0 }));
      expect(view.execution.claims.modelName).toBe("demo/chat");
    }
  });

  test("adds its own demands to those of the caller, and neither is relaxed", async () => {
    await addLittle({ country: "FR" });
    await setContract("french", { models: ["little/little-chat", "demo/chat"], require: { jurisdiction: ["FR"] } });
    for (let i = 0; i < 3; i++) {
      const { view } = await receipted(chat, "chat", asked("french"));
      expect(view.execution.claims.modelName).toBe("little/little-chat");
    }
    expect(await refusal(asked("french", { assay: { jurisdiction: ["US"] } }))).toEqual([422, "no_route"]);
    await receipted(chat, "chat", asked("french", { assay: { jurisdiction: ["EU"] } }));
  });

  test.each<readonly [string, string, Json]>([
    ["a slash", "a%2Fb", { models: ["demo/chat"] }],
    ["a meaning of its own", "any", { models: ["demo/chat"] }],
    ["no models", "none", { models: [] }],
    ["demands that are none", "odd", { models: ["demo/chat"], require: { colour: "red" } }],
  ])("with %s is refused", async (_, name, body) => {
    const response = await admin("PUT", `/v1/contracts/${name}`, body);
    const { code } = (await response.json()) as Json;
    expect([response.status, ["contract_invalid", "request_invalid"].includes(String(code))]).toEqual([400, true]);
    expect((await done(admin("GET", "/v1/contracts")))["contracts"]).toEqual([]);
  });
});

describe("any", () => {
  test("is whoever does that work, and the receipt says who", async () => {
    expect((await receipted(chat, "chat", asked("any"))).view.execution.claims.modelName).toBe("demo/chat");
    const vectors = await receipted(chat, "embeddings", { model: "any", input: "a receipt" });
    expect(vectors.view.execution.claims.modelName).toBe("demo/embed");
    await addLittle({ country: "DE" });
    const german = await receipted(chat, "chat", asked("any", { assay: { jurisdiction: ["DE"] } }));
    expect(german.view.execution.claims.modelName).toBe("little/little-chat");
  });
});

describe("limits", () => {
  beforeEach(() =>
    addLittle({
      country: "DE",
      families: { "*": "little" },
      prices: { "little-chat": { asset: "USD", perCall: "0.02" } },
    }).then(() => undefined),
  );

  test.each<readonly [string, string, Json, number, string]>([
    ["a country that nobody declares", "any", { jurisdiction: ["JP"] }, 422, "no_route"],
    [
      "better evidence of the country than a declaration",
      "little/little-chat",
      { jurisdiction: ["DE"], jurisdictionEvidence: "attested" },
      422,
      "no_route",
    ],
    ["less money than it costs", "little/little-chat", { maxPrice: "0.01" }, 422, "no_route"],
    ["a price where none is known", "little/other", { maxPrice: "100" }, 422, "no_route"],
    ["another family", "any", { family: "gpt" }, 422, "no_route"],
    ["another processor", "demo/chat", { cpuClass: "00".repeat(32) }, 422, "no_route"],
    ["an enclave", "any", { mode: "tee" }, 422, "assurance_unavailable"],
    ["a proof", "demo/chat", { mode: "zkml" }, 422, "assurance_unavailable"],
    ["what only an enclave may answer", "any", { valueAtRisk: "5000" }, 422, "assurance_unavailable"],
    [
      "what is worth an audit, of what nobody can audit",
      "little/little-chat",
      { valueAtRisk: "500" },
      422,
      "assurance_unavailable",
    ],
    ["a limit that is none", "any", { maxPrice: "much" }, 400, "parameter_invalid"],
    ["an option that is none", "any", { colour: "red" }, 400, "parameter_unknown"],
  ])("%s", async (_, model, assay, status, code) => {
    expect(await refusal(asked(model, { assay }))).toEqual([status, code]);
    expect(little.requests.filter(({ method }) => method === "POST").length).toBe(posted());
  });
  const posted = () => little.requests.filter(({ method }) => method === "POST").length;

  test("may stand in headers, and the body wins", async () => {
    expect(await refusal(asked("any"), { "assay-jurisdiction": "JP" })).toEqual([422, "no_route"]);
    const { view } = await receipted(chat, "chat", asked("any", { assay: { jurisdiction: ["DE"] } }), {
      "assay-jurisdiction": "JP",
    });
    expect(view.execution.claims.modelName).toBe("little/little-chat");
  });

  test("are no part of what the upstream is asked", async () => {
    await receipted(chat, "chat", asked("little/little-chat", { assay: { maxPrice: "0.02" } }));
    expect(little.requests.at(-1)?.body).not.toHaveProperty("assay");
    const dear = await receipted(chat, "chat", asked("little/little-chat", { assay: { maxPrice: "0.02" } }));
    expect(serviceOf(dear).price).toMatchObject({ asset: "USD", amountAtomic: "20000" });
  });

  test("an explanation says the same, and runs nothing", async () => {
    const before = posted();
    const explained = await ask(chat.url, "/v1/route/explain", {
      json: { model: "any", kind: "chat", assay: { jurisdiction: ["DE"] } },
    });
    expect(explained.body).toMatchObject({
      model: "any",
      choice: { candidate: expect.stringContaining("little/little-chat") as string },
    });
    const outcomes = (
      explained.body["candidates"] as readonly { readonly candidate: string; readonly outcome: string }[]
    ).map(({ candidate, outcome }) => [candidate.includes("demo/chat"), outcome]);
    expect(outcomes).toContainEqual([true, "refused:jurisdiction"]);
    const refused = await ask(chat.url, "/v1/route/explain", {
      json: { model: "any", kind: "chat", assay: { jurisdiction: ["JP"] } },
    });
    expect(refused.body).toMatchObject({ choice: null, refusal: { code: "no_route" } });
    expect(posted()).toBe(before);
  });
});

describe("what is at stake", () => {
  test("decides the assurance, by the policy that the statement names", async () => {
    const { digest } = await done(admin("GET", "/v1/assurance-policy"));
    const small = await receipted(chat, "chat", asked("demo/chat", { assay: { valueAtRisk: "99.99" } }));
    expect(serviceOf(small).assurance).toMatchObject({ asked: "vanilla", given: "vanilla" });
    const audited = await receipted(chat, "chat", asked("demo/chat", { assay: { valueAtRisk: "100.01" } }));
    expect(serviceOf(audited).assurance).toMatchObject({ asked: "vanilla+audit", given: "vanilla+audit" });
    expect(serviceOf(audited).route?.facts).toMatchObject({ assurancePolicy: digest, auditShare: "0.05" });

    await done(
      admin("PUT", "/v1/assurance-policy", {
        version: 1,
        tiers: [
          { upTo: "50", assurance: "vanilla" },
          { upTo: null, assurance: "tee" },
        ],
      }),
    );
    expect(await refusal(asked("demo/chat", { assay: { valueAtRisk: "99.99" } }))).toEqual([
      422,
      "assurance_unavailable",
    ]);
    const cheap = await receipted(chat, "chat", asked("demo/chat", { assay: { valueAtRisk: "50" } }));
    expect(serviceOf(cheap).route?.facts?.["assurancePolicy"]).not.toBe(digest);
    const bad = await admin("PUT", "/v1/assurance-policy", {
      version: 1,
      tiers: [
        { upTo: "5", assurance: "tee" },
        { upTo: null, assurance: "vanilla" },
      ],
    });
    expect([bad.status, ((await bad.json()) as Json)["code"]]).toEqual([400, "assurance_policy_invalid"]);
    await done(
      admin("PUT", "/v1/assurance-policy", {
        version: 1,
        tiers: [
          { upTo: "100", assurance: "vanilla" },
          { upTo: null, assurance: "vanilla+audit", auditShare: "0.05" },
        ],
      }),
    );
  });
});

test("the route stands in the service statement, with what it was drawn from", async () => {
  await addLittle();
  await setContract("both", { models: ["demo/chat", "little/little-chat"], objective: "latency" });
  const answered = await receipted(chat, "chat", asked("both"));
  const { route } = serviceOf(answered);
  const { identities } = chat.home.server.trust;
  expect(identities.map(({ subject }) => subject)).toContain(route?.chosen);
  expect(route).toMatchObject({ objective: "latency", candidates: expect.any(Array) as unknown });
  expect(route?.candidates).toHaveLength(2);
  expect(route?.facts).toMatchObject({ contract: "both", seed: expect.any(Uint8Array) as unknown });
  expect(bytesToHex(answered.view.execution.claims.receiptId)).toBe(answered.exchange.receiptId);
});

describe("a restart", () => {
  test("keeps upstreams with their keys, and names; a key that was moved to another address is not sent there", async () => {
    await addLittle({ country: "DE" });
    await setContract("support", {
      models: ["little/little-chat"],
      require: { jurisdiction: ["DE"] },
      objective: "price",
    });
    const before = [
      await done(admin("GET", "/v1/upstreams")),
      await done(admin("GET", "/v1/contracts")),
      await done(admin("GET", "/v1/assurance-policy")),
    ];
    chat = await restart(chat);
    expect([
      await done(admin("GET", "/v1/upstreams")),
      await done(admin("GET", "/v1/contracts")),
      await done(admin("GET", "/v1/assurance-policy")),
    ]).toEqual(before);
    await receipted(chat, "chat", asked("support"));
    expect(little.requests.at(-1)?.headers.authorization).toBe(`Bearer ${KEY}`);

    const thief = await serveWire(openAiHandler);
    try {
      const file = join(chat.home.directory, "upstreams.json");
      const moved = readFileSync(file, "utf8").replaceAll(`${little.url}/v1`, `${thief.url}/v1`);
      chat = await restart(chat, () => writeFileSync(file, moved));
      const { status } = await exchange(chat.url, "chat", asked("support"));
      expect(status).toBeGreaterThanOrEqual(400);
      expect(thief.requests).toEqual([]);
      expect(chat.home.lines.join("")).not.toContain(KEY);
    } finally {
      await thief.close();
    }
  });
});

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true);
}
