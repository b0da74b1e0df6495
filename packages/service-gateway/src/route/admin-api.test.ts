import { OpenAPIHono } from "@hono/zod-openapi";
import { beforeEach, describe, expect, it } from "vitest";
import { bytesToBase64, utf8ToBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import type { ParsedText, SecretStore } from "@assay/protocol";
import { createAuth } from "../auth.ts";
import { problemOf } from "../http-errors.ts";
import { mountRouteApi } from "./admin-api.ts";
import { openAssurancePolicyStore } from "./assurance-store.ts";
import { openContractStore } from "./contracts.ts";
import { createTextRouter } from "./router.ts";
import { createSealer } from "./seal.ts";
import { openUpstreamStore } from "./upstreams.ts";
import type { DocumentFile } from "./document.ts";

const now = (): number => 1_700_000_000_000;
const operator = ed25519Signer(randomSeed());
const alice = ed25519Signer(randomSeed());

function memory(): DocumentFile {
  let bytes: Uint8Array | undefined;
  return {
    read: () => Promise.resolve(bytes),
    write: (next) => {
      bytes = next;
      return Promise.resolve();
    },
  };
}

let app: OpenAPIHono;
let asked: ParsedText[];
let tokens: { readonly operator: string; readonly alice: string };

beforeEach(async () => {
  const stored = new Map<string, Parameters<SecretStore["putToken"]>[0]>();
  const secrets: SecretStore = {
    putToken: (token) => {
      stored.set(token.sha256, token);
      return Promise.resolve();
    },
    token: (sha256) => Promise.resolve(stored.get(sha256)),
    revokeToken: (sha256) => {
      stored.delete(sha256);
      return Promise.resolve();
    },
  };
  const auth = createAuth({
    secrets,
    suite: nodeSuite,
    challengeSecret: new Uint8Array(32),
    operatorKey: operator.publicKey,
    now,
  });
  const tokenOf = async (signer: Signer): Promise<string> => {
    const publicKey = bytesToBase64(signer.publicKey);
    const { challenge } = auth.challenge(publicKey);
    const signature = bytesToBase64(await signer.sign(utf8ToBytes(`assay/auth/1\n${challenge}`)));
    return (await auth.token({ publicKey, challenge, signature })).token;
  };
  tokens = { operator: await tokenOf(operator), alice: await tokenOf(alice) };

  const contracts = await openContractStore({ file: memory(), now });
  const assurance = await openAssurancePolicyStore(memory());
  const upstreams = await openUpstreamStore({ file: memory(), sealer: createSealer(new Uint8Array(32)), now });
  const router = createTextRouter({
    suite: nodeSuite,
    now,
    random: (bytes) => new Uint8Array(bytes),
    local: {
      executor: {
        subject: "urn:assay:node:local",
        check: () => Promise.reject(new Error("an explanation asks no engine")),
        execute: () => {
          throw new Error("an explanation executes nothing");
        },
      },
    },
    hub: {
      has: () => false,
      list: () => Promise.resolve([]),
      resolve: () => Promise.reject(new Error("there is no such model")),
      files: () => Promise.reject(new Error("there are no files")),
    },
    upstreams: () =>
      upstreams.list().map(({ name, prices, country }) => ({
        name,
        models: () => Promise.resolve([{ name: "gpt-x", kinds: ["chat"] as const }]),
        ...(prices ? { prices } : {}),
        ...(country === undefined ? {} : { country }),
      })),
    nodes: () => [],
    nodeExecutor: () => undefined,
    contract: contracts.get,
    contracts: contracts.list,
    assurance,
    checkpointRoot: () => new Uint8Array(32),
  });
  asked = [];
  app = new OpenAPIHono();
  app.onError((error) => {
    const problem = problemOf(error);
    return new Response(JSON.stringify(problem.body), { status: problem.status });
  });
  mountRouteApi(app, {
    auth,
    contracts,
    assurance,
    upstreams,
    router: {
      explain: (parsed, caller) => {
        asked.push(parsed);
        return router.explain(parsed, caller);
      },
    },
  });
});

type Answer = {
  readonly code?: string;
  readonly upstreams?: unknown;
  readonly contracts?: unknown;
  readonly isDefault?: boolean;
  readonly models?: unknown;
  readonly require?: unknown;
  readonly policy?: unknown;
  readonly digest?: string;
  readonly contract?: string | null;
  readonly assurance?: { readonly demanded: string };
  readonly candidates?: readonly { readonly costAtMost: string | null }[];
  readonly choice?: { readonly candidate: string } | null;
  readonly refusal?: { readonly code: string } | null;
};

async function call(method: string, path: string, body?: unknown, token: string | undefined = tokens.operator) {
  const response = await app.request(path, {
    method,
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, text, json: (text === "" ? {} : JSON.parse(text)) as Answer };
}
const openai = {
  name: "openai",
  kind: "openai",
  apiKey: "sk-secret-value",
  country: "US",
  prices: { "gpt-x": { asset: "USDC", perCall: "0.001" } },
};

describe("who may set up routing", () => {
  it.each([
    ["GET", "/v1/upstreams", undefined],
    ["POST", "/v1/upstreams", openai],
    ["DELETE", "/v1/upstreams/openai", undefined],
    ["GET", "/v1/contracts", undefined],
    ["GET", "/v1/contracts/a", undefined],
    ["PUT", "/v1/contracts/a", { models: ["any"] }],
    ["DELETE", "/v1/contracts/a", undefined],
    ["GET", "/v1/assurance-policy", undefined],
    ["PUT", "/v1/assurance-policy", { version: 1, tiers: [{ upTo: "1", assurance: "vanilla" }] }],
  ])("%s %s is the operator's alone", async (method, path, body) => {
    expect((await call(method, path, body, "")).json.code).toBe("token_required");
    expect((await call(method, path, body, "sk-of-another-service")).json.code).toBe("token_required");
    expect((await call(method, path, body, tokens.alice)).json.code).toBe("operator_required");
    expect((await call(method, path, body, "assay_forged")).json.code).toBe("token_invalid");
    expect((await call("GET", "/v1/upstreams")).json.upstreams).toStrictEqual([]);
    expect((await call("GET", "/v1/contracts")).json.contracts).toStrictEqual([]);
    expect((await call("GET", "/v1/assurance-policy")).json.isDefault).toBe(true);
  });
});

describe("upstreams", () => {
  it("are added, shown without their keys, used, and removed", async () => {
    const added = await call("POST", "/v1/upstreams", openai);
    expect(added.status).toBe(200);
    const listed = await call("GET", "/v1/upstreams");
    expect(listed.json.upstreams).toStrictEqual([added.json]);
    expect(added.text + listed.text).not.toContain("sk-secret");
    const explained = await call("POST", "/v1/route/explain", { model: "gpt-x" }, "");
    expect(explained.json.choice?.candidate).toBe("urn:assay:node:local#openai/gpt-x");
    expect((await call("DELETE", "/v1/upstreams/openai")).status).toBe(204);
    expect((await call("DELETE", "/v1/upstreams/openai")).json.code).toBe("upstream_not_found");
    expect((await call("POST", "/v1/route/explain", { model: "gpt-x" }, "")).json.code).toBe("model_not_found");
  });

  it.each([[{}], [{ ...openai, baseUrl: "http://api.example" }], [{ ...openai, name: "any" }], [[]]])(
    "refuse %j",
    async (body) => {
      expect((await call("POST", "/v1/upstreams", body)).status).toBe(400);
      expect((await call("GET", "/v1/upstreams")).json.upstreams).toStrictEqual([]);
    },
  );
});

describe("contracts and policies", () => {
  it("hold from the next request on", async () => {
    await call("POST", "/v1/upstreams", openai);
    expect((await call("PUT", "/v1/contracts/answers", { models: ["openai/gpt-x"] })).status).toBe(200);
    const explain = async (extra: object = {}) =>
      (await call("POST", "/v1/route/explain", { model: "answers", ...extra }, "")).json;
    expect((await explain()).contract).toBe("answers");
    expect((await explain()).choice).not.toBeNull();
    const european = { models: ["openai/gpt-x"], require: { jurisdiction: ["EU"] } };
    expect((await call("PUT", "/v1/contracts/answers", european)).json.require).toStrictEqual(european.require);
    expect((await explain()).refusal?.code).toBe("no_route");
    expect((await call("GET", "/v1/contracts/answers")).json.models).toStrictEqual(["openai/gpt-x"]);
    expect((await call("DELETE", "/v1/contracts/answers")).status).toBe(204);
    expect((await call("GET", "/v1/contracts/answers")).json.code).toBe("contract_not_found");

    const at = { model: "openai/gpt-x", assay: { valueAtRisk: "50" } };
    expect((await call("POST", "/v1/route/explain", at)).json.assurance?.demanded).toBe("vanilla");
    const strict = {
      version: 1,
      tiers: [
        { upTo: "10", assurance: "vanilla" },
        { upTo: "100", assurance: "tee" },
      ],
    };
    const put = await call("PUT", "/v1/assurance-policy", strict);
    expect(put.json.policy).toStrictEqual(strict);
    expect(put.json.digest).toMatch(/^[0-9a-f]{64}$/);
    const refused = await call("POST", "/v1/route/explain", at);
    expect(refused.json.refusal?.code).toBe("assurance_unavailable");
  });

  it("are refused when they cannot be applied", async () => {
    const falling = {
      version: 1,
      tiers: [
        { upTo: "10", assurance: "tee" },
        { upTo: "20", assurance: "vanilla" },
      ],
    };
    expect((await call("PUT", "/v1/assurance-policy", falling)).json.code).toBe("assurance_policy_invalid");
    expect((await call("PUT", "/v1/contracts/any", { models: ["any"] })).json.code).toBe("contract_invalid");
    expect((await call("PUT", "/v1/contracts/a%2Fb", { models: ["any"] })).json.code).toBe("contract_invalid");
  });
});

describe("explanations", () => {
  beforeEach(async () => {
    await call("POST", "/v1/upstreams", openai);
  });

  it("take a whole request of each API", async () => {
    const chat = {
      dialect: "chat",
      model: "gpt-x",
      messages: [{ role: "user", content: "hi" }],
      max_tokens: 5,
      assay: { max_price: "1" },
    };
    const found = await call("POST", "/v1/route/explain", chat, "");
    expect(found.status).toBe(200);
    expect(asked[0]?.routing).toStrictEqual({ maxPrice: "1" });
    expect(asked[0]?.parameters.max_tokens).toBe(5);
    expect(found.json.candidates?.[0]?.costAtMost).toBe("0.001");
    const completion = await call(
      "POST",
      "/v1/route/explain",
      { dialect: "completions", model: "gpt-x", prompt: "hi" },
      "",
    );
    expect(completion.json.refusal?.code).toBe("kind_unsupported");
  });

  it.each([
    ["no object", "[]"],
    ["no JSON", "{"],
    ["an unknown dialect", { dialect: "soap", model: "gpt-x" }],
    ["a request that its API refuses", { dialect: "chat", model: "gpt-x" }],
    ["no model", { kind: "chat" }],
    ["an unknown kind", { model: "gpt-x", kind: "tensor" }],
    ["a member that is not known", { model: "gpt-x", messages: [] }],
    ["tokens that are no number", { model: "gpt-x", max_tokens: "5" }],
    ["routing options that are none", { model: "gpt-x", assay: { jurisdiction: ["UK"] } }],
    ["a name beyond its length", { model: "m".repeat(257) }],
  ])("refuse %s", async (_, body) => {
    const { status, json } = await call("POST", "/v1/route/explain", body, "");
    expect(status).toBe(400);
    expect(json.code).toMatch(/^(request_invalid|json_invalid|parameter_invalid)$/);
    expect(asked).toStrictEqual([]);
  });

  it("refuse a body beyond its limit", async () => {
    const { json } = await call("POST", "/v1/route/explain", `{"model":"${"m".repeat(33 * 1024 * 1024)}"}`, "");
    expect(json.code).toBe("request_too_large");
  });
});

it("all stand in the OpenAPI document", () => {
  const document = app.getOpenAPI31Document({ openapi: "3.1.0", info: { title: "x", version: "1" } });
  expect(Object.keys(document.paths ?? {}).toSorted()).toStrictEqual([
    "/v1/assurance-policy",
    "/v1/contracts",
    "/v1/contracts/{name}",
    "/v1/route/explain",
    "/v1/upstreams",
    "/v1/upstreams/{name}",
  ]);
  expect(JSON.stringify(document)).not.toContain("sealedKey");
});
