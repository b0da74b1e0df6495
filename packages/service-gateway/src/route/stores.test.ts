import { describe, expect, it } from "vitest";
import { DEFAULT_ASSURANCE_POLICY } from "@assay/routing";
import { openAssurancePolicyStore } from "./assurance-store.ts";
import { MAX_CONTRACTS, openContractStore } from "./contracts.ts";
import { MAX_DOCUMENT_BYTES } from "./document.ts";
import type { DocumentFile } from "./document.ts";
import { createSealer } from "./seal.ts";
import { MAX_UPSTREAMS, openUpstreamStore } from "./upstreams.ts";

type Memory = DocumentFile & { bytes: Uint8Array | undefined; fail: boolean };
function memory(text?: string): Memory {
  const file: Memory = {
    bytes: text === undefined ? undefined : Buffer.from(text),
    fail: false,
    read: () => Promise.resolve(file.bytes),
    write(bytes) {
      if (file.fail) return Promise.reject(new Error("no space"));
      file.bytes = bytes;
      return Promise.resolve();
    },
  };
  return file;
}
const now = (): number => 1_700_000_000_000;
const code = (value: string): unknown => expect.objectContaining({ code: value });
const secret = new Uint8Array(32).fill(3);
const sealer = createSealer(secret);
const upstreams = (file: DocumentFile, by = sealer) => openUpstreamStore({ file, sealer: by, now });
const openai = { name: "openai", kind: "openai", baseUrl: "https://api.openai.example/v1/", apiKey: "sk-secret-value" };

describe("sealed secrets", () => {
  it("open for their purpose alone, and only unchanged", () => {
    const sealed = sealer.seal("a", Buffer.from("key"));
    expect(Buffer.from(sealer.open("a", sealed)).toString()).toBe("key");
    expect(() => sealer.open("b", sealed)).toThrow("not a sealed secret of this purpose");
    expect(() => createSealer(new Uint8Array(32)).open("a", sealed)).toThrow("not a sealed secret of this purpose");
    for (let i = 0; i < sealed.length; i++) {
      const changed = Uint8Array.from(sealed);
      changed[i] = (changed[i] ?? 0) ^ 1;
      expect(() => sealer.open("a", changed)).toThrow("not a sealed secret of this purpose");
    }
    for (let length = 0; length < sealed.length; length++)
      expect(() => sealer.open("a", sealed.subarray(0, length))).toThrow("not a sealed secret of this purpose");
  });

  it("are different each time", () => {
    expect(sealer.seal("a", Buffer.from("key"))).not.toStrictEqual(sealer.seal("a", Buffer.from("key")));
  });
});

describe("upstreams", () => {
  it("keep keys encrypted, and show a fingerprint", async () => {
    const file = memory();
    const store = await upstreams(file);
    const shown = await store.add(openai);
    expect(shown).toStrictEqual({
      name: "openai",
      kind: "openai",
      baseUrl: "https://api.openai.example/v1",
      // The first eight digits of the key's SHA-256.
      keyFingerprint: "6a34e9cf",
      addedAt: new Date(now()).toISOString(),
    });
    expect(JSON.stringify(store.list())).not.toContain("sk-secret");
    expect(Buffer.from(file.bytes ?? []).toString()).not.toContain("sk-secret");
    expect(store.apiKey("openai")).toBe("sk-secret-value");
    expect((await upstreams(file)).apiKey("openai")).toBe("sk-secret-value");
  });

  it("cannot be redirected by an edit of the file", async () => {
    const file = memory();
    await (await upstreams(file)).add(openai);
    const edited = Buffer.from(file.bytes ?? [])
      .toString()
      .replace("api.openai.example", "evil.example");
    const store = await upstreams(memory(edited));
    expect(store.get("openai")?.baseUrl).toBe("https://evil.example/v1");
    expect(() => store.apiKey("openai")).toThrow(code("upstream_key_unreadable"));
    const other = await upstreams(file, createSealer(new Uint8Array(32)));
    expect(() => other.apiKey("openai")).toThrow(code("upstream_key_unreadable"));
  });

  it.each([
    ["no object", 5],
    ["no name", { kind: "openai" }],
    ["a name with a slash", { ...openai, name: "a/b" }],
    ["a name in capitals", { ...openai, name: "OpenAI" }],
    ["a name that ends in a dash", { ...openai, name: "openai-" }],
    ["a name of 33 characters", { ...openai, name: "a".repeat(33) }],
    ["the name local", { ...openai, name: "local" }],
    ["the name any", { ...openai, name: "any" }],
    ["an unknown kind", { ...openai, kind: "cohere" }],
    ["an unknown member", { ...openai, api_key: "sk" }],
    ["no address where there is no usual one", { name: "x", kind: "openai-compatible" }],
    ["no URL", { ...openai, baseUrl: "api.openai.example" }],
    ["another protocol", { ...openai, baseUrl: "file:///etc/passwd" }],
    ["a password in the URL", { ...openai, baseUrl: "https://a:b@api.example" }],
    ["a query", { ...openai, baseUrl: "https://api.example/?key=1" }],
    ["an empty query", { ...openai, baseUrl: "https://api.example/?" }],
    ["a fragment", { ...openai, baseUrl: "https://api.example/#a" }],
    ["plain HTTP elsewhere", { ...openai, baseUrl: "http://api.example" }],
    ["plain HTTP elsewhere with a key", { ...openai, baseUrl: "http://api.example", allowPlain: true }],
    ["plain HTTP to a name like loopback", { ...openai, baseUrl: "http://127.0.0.1.example" }],
    ["plain HTTP to a private network", { ...openai, baseUrl: "http://10.0.0.1" }],
    ["a key with a line break", { ...openai, apiKey: "sk\r\nhost: evil" }],
    ["an empty key", { ...openai, apiKey: "" }],
    ["a key of 4,097 characters", { ...openai, apiKey: "k".repeat(4097) }],
    ["a price that is a number", { ...openai, prices: { "gpt-x": { asset: "USDC", perCall: 0.1 } } }],
    ["a price with a sign", { ...openai, prices: { "gpt-x": { asset: "USDC", perCall: "-1" } } }],
    ["a price without its asset", { ...openai, prices: { "gpt-x": { perCall: "1" } } }],
    [
      "2,001 listings",
      {
        ...openai,
        prices: Object.fromEntries(Array.from({ length: 2001 }, (_, i) => [`m${i}`, { asset: "USDC" }])),
      },
    ],
    ["a country in words", { ...openai, country: "Germany" }],
    ["no room at all", { ...openai, maxInFlight: 0 }],
  ])("refuse %s", async (_, request) => {
    const file = memory();
    await expect((await upstreams(file)).add(request)).rejects.toThrow(code("upstream_invalid"));
    expect(file.bytes).toBeUndefined();
  });

  it("take plain HTTP on this machine, and elsewhere when allowed and without a key", async () => {
    const store = await upstreams(memory());
    for (const [i, baseUrl] of [
      "http://127.0.0.1:8000",
      "http://localhost:1",
      "http://[::1]:2/v1",
      "http://127.9.9.9",
    ].entries())
      await store.add({ name: `l${i}`, kind: "openai-compatible", baseUrl });
    await store.add({ name: "lan", kind: "openai-compatible", baseUrl: "http://10.0.0.1", allowPlain: true });
    expect(store.list()).toHaveLength(5);
    expect(store.apiKey("lan")).toBeUndefined();
    expect(store.get("lan")?.keyFingerprint).toBeNull();
  });

  it("are replaced only when that is asked for", async () => {
    const store = await upstreams(memory());
    await store.add(openai);
    await expect(store.add(openai)).rejects.toThrow(code("upstream_exists"));
    await store.add({ ...openai, apiKey: "sk-other", replace: true });
    expect(store.apiKey("openai")).toBe("sk-other");
  });

  it("are limited in number", async () => {
    const store = await upstreams(memory());
    for (let i = 0; i < MAX_UPSTREAMS; i++) await store.add({ ...openai, name: `u${i}` });
    await expect(store.add({ ...openai, name: "more" })).rejects.toThrow(code("upstream_invalid"));
    await store.add({ ...openai, name: "u1", replace: true });
  });

  it("tell of changes, and of nothing that failed", async () => {
    const file = memory();
    const store = await upstreams(file);
    let changes = 0;
    const stop = store.onChange(() => changes++);
    await store.add(openai);
    await expect(store.remove("other")).rejects.toThrow(code("upstream_not_found"));
    file.fail = true;
    await expect(store.remove("openai")).rejects.toThrow("no space");
    expect(store.get("openai")).toBeDefined();
    file.fail = false;
    await store.remove("openai");
    expect(changes).toBe(2);
    stop();
    await store.add(openai);
    expect(changes).toBe(2);
    expect(() => store.apiKey("other")).toThrow(code("upstream_not_found"));
  });

  it.each(["", "{", "[]", '{"version":2,"upstreams":[]}', '{"version":1,"upstreams":[{"name":"A"}]}'])(
    "refuse to start from %j",
    async (text) => {
      await expect(upstreams(memory(text))).rejects.toThrow(code("route_document_invalid"));
    },
  );
});

describe("contracts", () => {
  const open = (file: DocumentFile) => openContractStore({ file, now });

  it("are kept, replaced and removed", async () => {
    const file = memory();
    const store = await open(file);
    await store.put("answers", { models: ["demo/chat"], require: { jurisdiction: ["EU"] }, objective: "price" });
    await store.put("answers", { models: ["demo/chat@2", "openai/gpt-x"], kinds: ["chat"] });
    expect((await open(file)).get("answers")).toStrictEqual({
      name: "answers",
      models: ["demo/chat@2", "openai/gpt-x"],
      kinds: ["chat"],
      changedAt: new Date(now()).toISOString(),
    });
    await store.remove("answers");
    expect(store.get("answers")).toBeUndefined();
    await expect(store.remove("answers")).rejects.toThrow(code("contract_not_found"));
  });

  it.each(["", "a/b", "any", "-a", "a b", "a".repeat(65), "ä"])("refuse the name %j", async (name) => {
    await expect((await open(memory())).put(name, { models: ["any"] })).rejects.toThrow(code("contract_invalid"));
  });

  it.each([
    ["no models", { models: [] }],
    ["a model with a space", { models: ["a b"] }],
    ["an empty model", { models: [""] }],
    ["too many models", { models: Array.from({ length: 65 }, (_, i) => `m${i}`) }],
    ["an unknown kind", { models: ["a/b"], kinds: ["tensor"] }],
    ["an unknown requirement", { models: ["a/b"], require: { region: "EU" } }],
    ["a place that is none", { models: ["a/b"], require: { jurisdiction: ["UK"] } }],
    ["itself", { models: ["x"] }],
    ["a misspelt member", { models: ["a/b"], requires: {} }],
  ])("refuse %s", async (_, body) => {
    await expect((await open(memory())).put("x", body)).rejects.toThrow(code("contract_invalid"));
  });

  it("do not nest, in whichever order they are made", async () => {
    const store = await open(memory());
    await store.put("inner", { models: ["demo/chat"] });
    await expect(store.put("outer", { models: ["inner"] })).rejects.toThrow(code("contract_invalid"));
    await store.put("outer", { models: ["gpt-x"] });
    await expect(store.put("gpt-x", { models: ["demo/chat"] })).rejects.toThrow(code("contract_invalid"));
  });

  it("are limited in number", async () => {
    const contracts = Object.fromEntries(
      Array.from({ length: MAX_CONTRACTS }, (_, i) => [`c${i}`, { models: ["a/b"], changedAtMs: 1 }]),
    );
    const store = await open(memory(JSON.stringify({ version: 1, contracts })));
    await expect(store.put("more", { models: ["a/b"] })).rejects.toThrow(code("contract_invalid"));
    await store.put("c1", { models: ["a/c"] });
    expect(store.get("c1")?.models).toStrictEqual(["a/c"]);
  });

  it("are not found in what every object has", async () => {
    const store = await open(memory());
    for (const name of ["constructor", "toString", "__proto__"]) expect(store.get(name)).toBeUndefined();
  });

  it("survive changes at the same time", async () => {
    const file = memory();
    const store = await open(file);
    await Promise.all(Array.from({ length: 20 }, (_, i) => store.put(`c${i}`, { models: ["a/b"] })));
    expect((await open(file)).list()).toHaveLength(20);
  });

  it("refuse to grow beyond what can be read again", async () => {
    const models = Array.from({ length: 64 }, (_, i) => `m/${String(i).padStart(250, "x")}`);
    const contracts = Object.fromEntries(Array.from({ length: 230 }, (_, i) => [`c${i}`, { models, changedAtMs: 1 }]));
    const file = memory(JSON.stringify({ version: 1, contracts }));
    const store = await open(file);
    const before = file.bytes;
    await expect(store.put("more", { models }).then(() => store.put("most", { models }))).resolves.toBeDefined();
    await expect(
      (async () => {
        for (let i = 0; i < 40; i++) await store.put(`n${i}`, { models });
      })(),
    ).rejects.toThrow(code("request_too_large"));
    expect(file.bytes).not.toBe(before);
    await expect(open(file)).resolves.toBeDefined();
  });

  it("refuse a document that grew too large", async () => {
    const file = memory(" ".repeat(MAX_DOCUMENT_BYTES + 1));
    await expect(open(file)).rejects.toThrow(code("route_document_invalid"));
  });
});

describe("the assurance policy", () => {
  it("is the default one until it is replaced, and then that one", async () => {
    const file = memory();
    const store = await openAssurancePolicyStore(file);
    expect(store.isDefault()).toBe(true);
    expect(store.get()).toBe(DEFAULT_ASSURANCE_POLICY);
    const before = store.digest();
    await store.put({ version: 1, tiers: [{ upTo: "10", assurance: "vanilla" }] });
    expect(store.isDefault()).toBe(false);
    expect(store.digest()).not.toStrictEqual(before);
    const again = await openAssurancePolicyStore(file);
    expect(again.get()).toStrictEqual(store.get());
    expect(again.digest()).toStrictEqual(store.digest());
  });

  it.each([
    ["nothing", undefined],
    ["no tiers", { version: 1, tiers: [] }],
    ["another version", { version: 2, tiers: [{ upTo: "1", assurance: "vanilla" }] }],
    ["an unknown assurance", { version: 1, tiers: [{ upTo: "1", assurance: "strong" }] }],
    ["a value as a number", { version: 1, tiers: [{ upTo: 1, assurance: "vanilla" }] }],
    [
      "tiers that do not ascend",
      {
        version: 1,
        tiers: [
          { upTo: "2", assurance: "tee" },
          { upTo: "1", assurance: "tee" },
        ],
      },
    ],
    ["an audit without a share", { version: 1, tiers: [{ upTo: "2", assurance: "vanilla+audit" }] }],
  ])("refuses %s, and stays what it was", async (_, body) => {
    const store = await openAssurancePolicyStore(memory());
    await expect(store.put(body)).rejects.toThrow(code("assurance_policy_invalid"));
    expect(store.isDefault()).toBe(true);
  });

  it("refuses to start from a policy that cannot be applied", async () => {
    const falling = {
      version: 1,
      tiers: [
        { upTo: null, assurance: "tee" },
        { upTo: "1", assurance: "tee" },
      ],
    };
    await expect(openAssurancePolicyStore(memory(JSON.stringify(falling)))).rejects.toThrow(
      code("route_document_invalid"),
    );
  });
});
