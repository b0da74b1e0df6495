import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { AssayError } from "@assay/core";
import type {
  ListedEngineModel,
  Listing,
  ListingSubject,
  ParsedText,
  TextExecutor,
  TextOutcome,
} from "@assay/protocol";
import { DEFAULT_ASSURANCE_POLICY, routeSeed } from "@assay/routing";
import type { NodeCandidate } from "@assay/routing";
import { PROFILE, decodeClaims, encodeClaims } from "@assay/receipts";
import { MAX_PER_OWNER } from "./callers.ts";
import type { Contract } from "./contracts.ts";
import { MAX_EXPLAINED } from "./explain.ts";
import { createTextRouter } from "./router.ts";
import { UNBOUNDED } from "./priced.ts";
import type { RouterOptions } from "./router.ts";
import type { HubTextModel, RoutedUpstream } from "./sources.ts";

const NOW = 1_700_000_000_000;
const LOCAL = "urn:assay:node:local";
const suite = {
  sha256: (...parts: readonly Uint8Array[]) => {
    const hash = createHash("sha256");
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest());
  },
};
const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex");
const executor = (subject: string): TextExecutor => ({
  subject,
  check: () => Promise.resolve(),
  execute: () => {
    throw new Error("a router executes nothing");
  },
});
const chat: HubTextModel = {
  name: "demo/chat",
  version: 2,
  manifestDigest: digestOf("chat 2"),
  kinds: ["chat", "completion"],
  family: "llama",
};
const embed: HubTextModel = { name: "demo/embed", version: 1, manifestDigest: digestOf("embed"), kinds: ["embedding"] };
const hidden: HubTextModel = { name: "own/hidden", version: 1, manifestDigest: digestOf("hidden"), kinds: ["chat"] };
const older: HubTextModel = { ...chat, version: 1, manifestDigest: digestOf("chat 1") };

function upstream(name: string, models: readonly string[], changes: Partial<RoutedUpstream> = {}): RoutedUpstream {
  const listed: ListedEngineModel[] = models.map((model) => ({ name: model, kinds: ["chat", "completion"] }));
  return { name, models: () => Promise.resolve(listed), ...changes };
}
function node(name: string, offers: NodeCandidate["offers"], changes: Partial<NodeCandidate> = {}): NodeCandidate {
  return { subject: `urn:assay:node:${name}`, securityModes: ["vanilla"], lastSeenMs: NOW, offers, ...changes };
}
const holds = (model: HubTextModel, changes: object = {}): NodeCandidate["offers"][number] => ({
  engine: "local",
  model: model.name,
  version: String(model.version),
  manifestDigest: model.manifestDigest,
  kinds: model.kinds,
  ...changes,
});

function setup({
  upstreams = [],
  nodes = [],
  contracts = {},
  gone = new Set<string>(),
  limits = {},
  listings = {},
}: {
  readonly listings?: Readonly<Record<string, Partial<Listing>>>;
  readonly limits?: RouterOptions;
  readonly upstreams?: readonly RoutedUpstream[];
  readonly nodes?: readonly NodeCandidate[];
  readonly contracts?: Readonly<Record<string, Omit<Contract, "name" | "changedAt">>>;
  readonly gone?: ReadonlySet<string>;
} = {}) {
  let nowMs = NOW;
  const contract = (name: string): Contract | undefined =>
    Object.hasOwn(contracts, name) ? { name, changedAt: new Date(NOW).toISOString(), ...contracts[name]! } : undefined;
  const hub = [chat, embed, hidden];
  const listed = new Map<ListingSubject, Listing>();
  for (const [name, rates] of Object.entries(listings))
    listed.set(`model:${name}`, { subject: `model:${name}`, asset: "USDC", owner: "x", changedAtMs: NOW, ...rates });
  let count = 0;
  const router = createTextRouter(
    {
      suite,
      now: () => nowMs,
      random: (bytes) => new Uint8Array(bytes).fill(++count),
      local: { executor: executor(LOCAL), slots: 1, jurisdiction: { country: "DE", evidence: "declared" } },
      hub: {
        has: (name) => hub.some((model) => model.name === name),
        list: (viewer) => Promise.resolve(hub.filter((model) => model !== hidden || viewer === "me")),
        resolve(text, viewer) {
          const found = text === "demo/chat@1" ? older : hub.find((model) => model.name === text);
          if (!found || (found === hidden && viewer !== "me"))
            return Promise.reject(new AssayError("model_not_found", `There is no model named ${text}.`));
          return Promise.resolve(found);
        },
        files: ({ manifestDigest }) =>
          Promise.resolve({ manifestDigest, directory: "/models", entry: "model.onnx", files: [] }),
      },
      upstreams: () => upstreams,
      nodes: () => nodes,
      nodeExecutor: (subject) => (gone.has(subject) ? undefined : executor(subject)),
      contract,
      listingOf: (subject) => listed.get(subject),
      decimalsOf: (asset) => (asset === "ASY" ? 18 : undefined),
      contracts: () => Object.keys(contracts).flatMap((name) => contract(name) ?? []),
      assurance: { get: () => DEFAULT_ASSURANCE_POLICY, digest: () => new Uint8Array(32).fill(1) },
      checkpointRoot: () => new Uint8Array(32).fill(2),
    },
    limits,
  );
  return { router, pass: (ms: number) => (nowMs += ms) };
}

function parsed(model: string, changes: Partial<ParsedText> = {}): ParsedText {
  return {
    dialect: "chat",
    kind: "chat",
    model,
    messages: [{ role: "user", content: "hello" }],
    parameters: { max_tokens: 10 },
    stream: false,
    includeUsage: false,
    routing: {},
    ...changes,
  };
}
const options = (...exclude: string[]) => ({ exclude: new Set(exclude), signal: new AbortController().signal });
const code = (value: string): unknown => expect.objectContaining({ code: value });
const outcome: TextOutcome = {
  finish: "stop",
  usage: { prompt_tokens: 1000, completion_tokens: 100, total_tokens: 1100 },
  engineMs: 5,
};

describe("listings", () => {
  const openai = upstream("openai", ["gpt-x", "gpt-y"], { prices: { "*": { asset: "USDC", perCall: "9" } } });
  const both = { contracts: { both: { models: ["openai/gpt-x", "demo/chat"] } }, upstreams: [openai] };
  const listings = {
    "demo/chat": { perCall: "0.5" },
    "openai/gpt-x": { perMillionOutputTokens: "10", perCall: "1" },
  };

  it("are what the router compares and limits by, in the place of what upstreams and nodes say", async () => {
    const nodes = [node("far", [holds(chat, { price: { asset: "USDC", perCall: "0.000001" } })])];
    const { router } = setup({ ...both, nodes, listings });
    const costs = async (model: string): Promise<readonly unknown[]> =>
      (await router.explain(parsed(model), {})).candidates.map(({ costAtMost }) => costAtMost);
    expect(await costs("demo/chat")).toEqual(["0.5", "0.5"]);
    expect(await costs("openai/gpt-x")).toEqual(["1.0001"]);
    expect(await costs("openai/gpt-y")).toEqual(["9"]);
    await expect(router.route(parsed("demo/chat", { routing: { maxPrice: "0.4" } }), {}, options())).rejects.toThrow(
      code("no_route"),
    );
    const cheap = await router.route(parsed("both", { routing: { objective: "price" } }), {}, options());
    expect(cheap.target.modelName).toBe("demo/chat");
  });

  it("that ask for time satisfy no price limit, because nobody knows the time before", async () => {
    const { router } = setup({ listings: { "demo/chat": { perSecond: "0.1" } } });
    await expect(router.route(parsed("demo/chat", { routing: { maxPrice: "100" } }), {}, options())).rejects.toThrow(
      code("no_route"),
    );
    await router.route(parsed("demo/chat"), {}, options());
  });

  it("have the decimals of their asset", async () => {
    const { router } = setup({ listings: { "demo/chat": { asset: "ASY", perCall: "0.5" } } });
    const routed = await router.route(parsed("demo/chat"), {}, options());
    expect(routed.service(outcome).price).toEqual({
      amountAtomic: "500000000000000000",
      asset: "ASY",
      rateSource: "listing",
      unit: "1e-18",
    });
  });

  it("of tensors too", () => {
    const { router } = setup({ listings: { "demo/net": { perCall: "2" } } });
    const net = { name: "demo/net", version: 1, manifestDigest: digestOf("net") };
    const routed = router.routeTensor(net, {}, { exclude: new Set() });
    expect(routed.service().price).toMatchObject({ amountAtomic: "2000000", asset: "USDC" });
    expect(() => router.routeTensor(net, { maxPrice: "1" }, { exclude: new Set() })).toThrow(code("no_route"));
  });

  it("of a request are those of everything that may answer it, and its tokens are bounded by request and model", async () => {
    const { router } = setup({ ...both, listings });
    const most = { inputTokens: expect.any(Number) as number, outputTokens: 10 };
    expect(await router.priced?.(parsed("demo/chat"), {})).toEqual({
      subjects: ["model:demo/chat"],
      most,
      mostOf: new Map([["model:demo/chat", most]]),
    });
    const open = await router.priced?.(parsed("both", { parameters: {} }), {});
    expect(open?.subjects.toSorted()).toEqual(["model:demo/chat", "model:openai/gpt-x"]);
    expect(open?.most.outputTokens).toBe(UNBOUNDED.outputTokens);
    const several = await router.priced?.(parsed("demo/chat", { parameters: { n: 3, max_tokens: 10 } }), {});
    expect(several?.most.outputTokens).toBe(30);
    const bounded = await router.priced?.(parsed("both", { routing: { family: "llama" } }), {});
    expect(bounded?.subjects).toEqual(["model:demo/chat"]);
    const none = await router.priced?.(parsed("both", { routing: { family: "none" } }), {});
    expect(none?.subjects).toEqual([]);
    await expect(router.priced?.(parsed("no/such"), {})).rejects.toThrow(code("model_not_found"));
  });

  it("of one request are in one asset: the one that most of its models are listed in", async () => {
    const contracts = { three: { models: ["openai/gpt-x", "openai/gpt-y", "demo/chat"] } };
    const assets = async (gptY: string | undefined): Promise<readonly string[] | undefined> => {
      const of = { ...listings, "demo/chat": { asset: "ASY", perCall: "1" } };
      const { router } = setup({
        upstreams: [openai],
        contracts,
        listings: gptY === undefined ? of : { ...of, "openai/gpt-y": { asset: gptY, perCall: "1" } },
      });
      return (await router.priced?.(parsed("three"), {}))?.subjects.toSorted();
    };
    expect(await assets("USDC")).toEqual(["model:openai/gpt-x", "model:openai/gpt-y"]);
    expect(await assets("ASY")).toEqual(["model:demo/chat", "model:openai/gpt-y"]);
    // Of as many each the first in order; what has no listing is free and goes with any.
    expect(await assets(undefined)).toEqual(["model:demo/chat", "model:openai/gpt-y"]);
  });

  it("of one author raise nobody's quote: what costs more than a few times the cheapest does not answer for several", async () => {
    const four = upstream("openai", ["cheap", "fair", "dear", "open"]);
    const contracts = {
      some: { models: ["openai/cheap", "openai/fair", "openai/dear", "openai/open"] },
      limited: { models: ["openai/cheap", "openai/dear"], require: { maxPrice: "2000" } },
    };
    const perCall = (price: string): Partial<Listing> => ({ perCall: price });
    const asked = async (
      model: string,
      more: Readonly<Record<string, Partial<Listing>>> = {},
      routing: ParsedText["routing"] = {},
    ): Promise<readonly string[] | undefined> => {
      const of = { "openai/cheap": perCall("0.001"), "openai/fair": perCall("0.004"), "openai/dear": perCall("1000") };
      const { router } = setup({ upstreams: [four], contracts, listings: { ...of, ...more } });
      const first = await router.priced?.(parsed(model, { routing }), {}, 1000);
      // The request that pays is quoted like the one that asked.
      expect(await router.priced?.(parsed(model, { routing }), {}, 1000)).toEqual(first);
      return first?.subjects.map((subject) => subject.replace("model:", "")).toSorted();
    };
    const few = ["openai/cheap", "openai/fair", "openai/open"];
    const priced = ["openai/cheap", "openai/dear", "openai/fair"];
    expect(await asked("some")).toEqual(few);
    expect((await asked("any"))?.filter((name) => name.startsWith("openai/"))).toEqual(few);
    const least = await asked("some", { "openai/fair": perCall("0.004000000000000001") });
    expect(least).toEqual(["openai/cheap", "openai/open"]);
    // Whoever names a model, or says what it may cost, has meant it; what has no price keeps to no limit.
    expect(await asked("openai/dear")).toEqual(["openai/dear"]);
    expect(await asked("some", {}, { maxPrice: "2000" })).toEqual(priced);
    expect(await asked("some", {}, { maxPrice: "0.003" })).toEqual(["openai/cheap"]);
    expect(await asked("limited")).toEqual(["openai/cheap", "openai/dear"]);
    // What is listed for nothing is free: neither the cheapest, nor in an asset.
    expect(await asked("some", { "openai/open": { asset: "ASY", perCall: "0" } })).toEqual(few);
    // Time counts as well. What costs this request nothing is no measure for the others, and is in an asset all the same.
    expect(await asked("some", { "openai/fair": { perSecond: "0.0041" } })).toEqual(least);
    const stored = { perGigabyteDay: "1000" };
    expect(await asked("some", { "openai/dear": stored })).toEqual([...priced, "openai/open"]);
    expect(await asked("some", { "openai/dear": { ...stored, asset: "ASY" } })).toEqual(few);
  });

  it("are priced each with what its own model can use: one that writes much makes no other dearer", async () => {
    const nodes = [node("far", [holds(chat, { contextTokens: 1_000_000, maxOutputTokens: 1_000_000 })])];
    const { router } = setup({ ...both, nodes, listings: { "openai/gpt-x": { perMillionOutputTokens: "10" } } });
    const found = await router.priced?.(parsed("both", { parameters: {} }), {}, 600_000);
    expect(found?.mostOf.get("model:openai/gpt-x")).toMatchObject({
      outputTokens: UNBOUNDED.outputTokens,
      milliseconds: 600_000,
    });
  });

  it("that were not quoted are not charged: their models do not answer", async () => {
    const { router } = setup({ ...both, listings });
    const quoted = { ...options(), subjects: new Set<ListingSubject>(["model:openai/gpt-x"]) };
    for (let i = 0; i < 8; i++) {
      const routed = await router.route(parsed("both"), {}, quoted);
      expect([routed.subject, routed.target.modelName]).toEqual(["model:openai/gpt-x", "openai/gpt-x"]);
    }
    const nothing = { ...options(), subjects: new Set<ListingSubject>() };
    await expect(router.route(parsed("both"), {}, nothing)).rejects.toThrow(AssayError);
  });
});

describe("names", () => {
  const openai = upstream("openai", ["gpt-x", "shared"]);
  const other = upstream("other", ["shared", "meta/llama-3"]);
  const { router } = setup({ upstreams: [openai, other] });
  const target = async (name: string) => (await router.route(parsed(name), {}, options())).target;

  it("of the hub run here, with their files and version", async () => {
    expect(await target("demo/chat")).toStrictEqual({
      engine: "local",
      model: {
        name: "demo/chat",
        files: { manifestDigest: chat.manifestDigest, directory: "/models", entry: "model.onnx", files: [] },
      },
      modelName: "demo/chat",
      modelVersion: "2",
    });
    expect((await target("demo/chat@1")).modelVersion).toBe("1");
  });

  it("of upstreams run there, listed or not, by their full name", async () => {
    const expected = { engine: "openai", model: { name: "gpt-x" }, modelName: "openai/gpt-x" };
    expect(await target("openai/gpt-x")).toStrictEqual(expected);
    expect((await target("openai/new-one")).model.name).toBe("new-one");
    expect((await target("other/meta/llama-3")).model.name).toBe("meta/llama-3");
  });

  it("without an upstream are enough where only one has it", async () => {
    expect((await target("gpt-x")).engine).toBe("openai");
    expect((await target("meta/llama-3")).engine).toBe("other");
    await expect(target("shared")).rejects.toThrow(code("model_ambiguous"));
    await expect(target("shared")).rejects.toThrow(
      expect.objectContaining({ hints: [expect.stringContaining("openai/shared, other/shared")] }),
    );
  });

  it.each(["nothing", "demo/nothing", "openai/", "", "@", "/", "openai", "a/b/c", "__proto__", "any@1"])(
    "refuse %j",
    async (name) => {
      await expect(target(name)).rejects.toThrow(code("model_not_found"));
    },
  );

  it("of private models are unknown to others, whoever else offers them", async () => {
    const stranger = node("x", [{ engine: "local", model: "own/hidden", kinds: ["chat"] }, holds(hidden)]);
    const { router: with_ } = setup({ nodes: [stranger] });
    await expect(with_.route(parsed("own/hidden"), {}, options())).rejects.toThrow(code("model_not_found"));
    expect((await with_.route(parsed("own/hidden"), { owner: "me" }, options())).target.modelName).toBe("own/hidden");
    const any = await with_.explain(parsed("any"), {});
    expect(any.candidates.some(({ model }) => model === "own/hidden")).toBe(false);
    expect((await with_.textModels()).some(({ name }) => name === "own/hidden")).toBe(false);
  });

  it("that are the hub's and begin with an upstream's are refused", async () => {
    const { router: with_ } = setup({ upstreams: [upstream("demo", ["chat"])] });
    await expect(with_.route(parsed("demo/chat"), {}, options())).rejects.toThrow(code("model_ambiguous"));
  });

  it("still work by their full name while an upstream does not list", async () => {
    const broken = upstream("down", [], { models: () => Promise.reject(new Error("away")) });
    const { router: with_ } = setup({ upstreams: [broken, openai] });
    expect((await with_.route(parsed("down/model"), {}, options())).target.engine).toBe("down");
    expect((await with_.route(parsed("gpt-x"), {}, options())).target.engine).toBe("openai");
  });

  it("find no work that the model does not do", async () => {
    await expect(router.route(parsed("demo/embed"), {}, options())).rejects.toThrow(code("kind_unsupported"));
    await expect(
      router.route(parsed("gpt-x", { dialect: "embeddings", kind: "embedding", inputs: ["x"] }), {}, options()),
    ).rejects.toThrow(code("kind_unsupported"));
  });
});

describe("nodes", () => {
  it("answer for a model of the hub with the same manifest, and with no other", async () => {
    const good = node("good", [holds(chat)]);
    const bad = node("bad", [holds(chat, { manifestDigest: digestOf("something else") })]);
    const { router } = setup({ nodes: [good, bad] });
    const { candidates } = await router.explain(parsed("demo/chat"), {});
    expect(candidates.map((one) => one.node).toSorted()).toStrictEqual([good.subject, LOCAL]);
    const first = await router.route(parsed("demo/chat"), {}, options(`${LOCAL}#local/demo/chat@2`));
    expect(first.executor.subject).toBe(good.subject);
    expect(first.target).toStrictEqual({
      engine: "local",
      model: {
        name: "demo/chat",
        files: { manifestDigest: chat.manifestDigest, directory: "/models", entry: "model.onnx", files: [] },
      },
      modelName: "demo/chat",
      modelVersion: "2",
    });
    await expect(
      router.route(parsed("demo/chat"), {}, options(`${LOCAL}#local/demo/chat@2`, first.candidate)),
    ).rejects.toThrow(code("no_route"));
  });

  it("add models of their own, of the newest version, and are refused where they disagree", async () => {
    const offer = { engine: "local", model: "far/one", kinds: ["chat"] as const };
    const one = node("one", [{ ...offer, version: "1", manifestDigest: digestOf("1") }]);
    const two = node("two", [{ ...offer, version: "2", manifestDigest: digestOf("2") }]);
    const { router } = setup({ nodes: [one, two] });
    expect((await router.route(parsed("far/one"), {}, options())).executor.subject).toBe(two.subject);
    expect((await router.route(parsed("far/one@1"), {}, options())).executor.subject).toBe(one.subject);
    const liar = node("liar", [{ ...offer, version: "2", manifestDigest: digestOf("other 2") }]);
    const { router: with_ } = setup({ nodes: [one, two, liar] });
    await expect(with_.route(parsed("far/one"), {}, options())).rejects.toThrow(code("model_ambiguous"));
  });

  it("that left are passed over for those that are there", async () => {
    const nodes = [node("left", [holds(chat)]), node("there", [holds(chat)])];
    const { router } = setup({ nodes, gone: new Set(["urn:assay:node:left"]) });
    for (let i = 0; i < 20; i++)
      expect((await router.route(parsed("demo/chat"), {}, options())).executor.subject).not.toBe("urn:assay:node:left");
  });

  it("whose listing is none have an unknown price, and spoil nothing for others", async () => {
    const odd = node("odd", [holds(chat, { price: { asset: "USDC", perCall: "007" } })]);
    const { router } = setup({ nodes: [odd] });
    const { candidates, choice } = await router.explain(parsed("demo/chat", { routing: { maxPrice: "1" } }), {});
    expect(candidates.find((one) => one.node === odd.subject)?.outcome).toBe("refused:price_unknown");
    expect(choice?.node).toBe(LOCAL);
  });

  it("are passed over where a model has a name that no statement could hold", async () => {
    const offer = { engine: "local", kinds: ["chat"] as const };
    const odd = node("odd", [
      { ...offer, model: "m".repeat(257) },
      { ...offer, model: "line\nbreak" },
      { ...offer, model: "far/one", version: "v".repeat(65) },
    ]);
    const { router } = setup({ nodes: [odd] });
    for (const name of ["m".repeat(257), "line\nbreak", "far/one"])
      await expect(router.route(parsed(name), {}, options())).rejects.toThrow(code("model_not_found"));
    expect((await router.explain(parsed("any"), {})).candidates.every((one) => one.node === LOCAL)).toBe(true);
  });

  it("that are silent, drain or are elsewhere get nothing", async () => {
    const nodes = [
      node("silent", [holds(chat)], { lastSeenMs: NOW - 60_000 }),
      node("drains", [holds(chat)], { draining: true }),
      node("us", [holds(chat)], { jurisdiction: { country: "US", evidence: "registry" } }),
    ];
    const { router } = setup({ nodes });
    const found = await router.explain(parsed("demo/chat", { routing: { jurisdiction: ["EU"] } }), {});
    expect(Object.fromEntries(found.candidates.map((one) => [one.node, one.outcome]))).toStrictEqual({
      "urn:assay:node:silent": "refused:jurisdiction",
      "urn:assay:node:drains": "refused:jurisdiction",
      "urn:assay:node:us": "refused:jurisdiction",
      [LOCAL]: "chosen",
    });
    const anywhere = await router.explain(parsed("demo/chat"), {});
    expect(anywhere.candidates.find((one) => one.node.endsWith("silent"))?.outcome).toBe("refused:silent");
    expect(anywhere.candidates.find((one) => one.node.endsWith("drains"))?.outcome).toBe("refused:draining");
  });
});

describe("contracts", () => {
  const upstreams = [upstream("openai", ["gpt-x"], { country: "US" }), upstream("eu", ["big"], { country: "FR" })];
  const contracts = {
    answers: { models: ["openai/gpt-x", "eu/big"], require: { jurisdiction: ["EU"] } },
    vectors: { models: ["demo/embed"], kinds: ["embedding" as const] },
    moved: { models: ["demo/nothing", "demo/chat"] },
    empty: { models: ["demo/nothing", "openai-gone/x"] },
    anything: { models: ["any"], require: { family: "llama" } },
    shadow: { models: ["demo/chat"] },
  };
  const { router } = setup({ upstreams, contracts });

  it("hold their requirements besides the caller's", async () => {
    const routed = await router.route(parsed("answers"), {}, options());
    expect(routed.target.engine).toBe("eu");
    expect(routed.service(outcome).route?.facts?.["contract"]).toBe("answers");
    await expect(router.route(parsed("answers", { routing: { jurisdiction: ["US"] } }), {}, options())).rejects.toThrow(
      code("no_route"),
    );
  });

  it("go on without a model that is gone, and end without any", async () => {
    expect((await router.route(parsed("moved"), {}, options())).target.modelName).toBe("demo/chat");
    await expect(router.route(parsed("empty"), {}, options())).rejects.toThrow(code("model_not_found"));
  });

  it("are for their kinds", async () => {
    await expect(router.route(parsed("vectors"), {}, options())).rejects.toThrow(code("kind_unsupported"));
  });

  it("may take any model that fits", async () => {
    expect((await router.route(parsed("anything"), {}, options())).target.modelName).toBe("demo/chat");
  });

  it("come before a bare id of the same name", async () => {
    const { router: with_ } = setup({ upstreams, contracts: { "gpt-x": { models: ["demo/chat"] } } });
    expect((await with_.route(parsed("gpt-x"), {}, options())).target.engine).toBe("local");
  });

  it("answer under a provider's prefix too, unless the prefix is somebody here", async () => {
    const { router: with_ } = setup({ upstreams, contracts: { "gpt-x": { models: ["demo/chat"] } } });
    expect((await with_.route(parsed("anthropic/gpt-x"), {}, options())).target.engine).toBe("local");
    expect((await with_.route(parsed("openai/gpt-x"), {}, options())).target.engine).toBe("openai");
    await expect(with_.route(parsed("demo/gpt-x"), {}, options())).resolves.toBeDefined();
    await expect(with_.route(parsed("anthropic/other"), {}, options())).rejects.toThrow(code("model_not_found"));
  });

  it("are listed with the models of upstreams", async () => {
    const names = (await router.textModels()).map(({ name }) => name);
    expect(names).toStrictEqual(expect.arrayContaining(["answers", "vectors", "openai/gpt-x", "eu/big"]));
  });
});

describe("a try", () => {
  it("is counted from its start to its end, and makes others go elsewhere", async () => {
    const { router } = setup({ nodes: [node("b", [holds(chat)], { slots: 1 })] });
    const first = await router.route(parsed("demo/chat"), {}, options());
    first.started();
    expect(router.stats().inFlight).toBe(1);
    const seen = new Set<string>();
    for (let i = 0; i < 20; i++) seen.add((await router.route(parsed("demo/chat"), {}, options())).executor.subject);
    expect([...seen]).not.toContain(first.executor.subject);
    first.ended("ok", { outcome });
    first.ended("failed", { code: "engine_unavailable" });
    expect(router.stats()).toStrictEqual({ inFlight: 0, tracked: 1, ejected: 0 });
  });

  it("that fails five times rests, and comes back on trial", async () => {
    const { router, pass } = setup({ upstreams: [upstream("openai", ["gpt-x"])] });
    for (let i = 0; i < 5; i++) {
      const routed = await router.route(parsed("openai/gpt-x"), {}, options());
      routed.started();
      routed.ended("failed", { code: "upstream_unreachable" });
    }
    await expect(router.route(parsed("openai/gpt-x"), {}, options())).rejects.toThrow(code("nodes_unavailable"));
    expect((await router.route(parsed("demo/chat"), {}, options())).executor.subject).toBe(LOCAL);
    pass(5_000);
    const trial = await router.route(parsed("openai/gpt-x"), {}, options());
    trial.started();
    await expect(router.route(parsed("openai/gpt-x"), {}, options())).rejects.toThrow(code("nodes_unavailable"));
    trial.ended("ok", { outcome });
    await router.route(parsed("openai/gpt-x"), {}, options());
  });

  it("is not held against a model by what a caller asked wrongly", async () => {
    const { router } = setup();
    for (let i = 0; i < 50; i++) {
      const routed = await router.route(parsed("demo/chat"), {}, options());
      routed.started();
      routed.ended("failed", { code: "parameter_unsupported" });
    }
    expect(router.stats().ejected).toBe(0);
    await router.route(parsed("demo/chat"), {}, options());
  });

  it("is not begun for somebody who left", async () => {
    const { router } = setup();
    const left = AbortSignal.abort(new AssayError("request_cancelled", "Gone."));
    await expect(router.route(parsed("demo/chat"), {}, { exclude: new Set(), signal: left })).rejects.toThrow(
      code("request_cancelled"),
    );
  });

  it("is refused by a full upstream, and by one that has just said so", async () => {
    const { router, pass } = setup({ upstreams: [upstream("openai", ["gpt-x"], { maxInFlight: 1 })] });
    const one = await router.route(parsed("gpt-x"), {}, options());
    one.started();
    await expect(router.route(parsed("gpt-x"), {}, options())).rejects.toThrow(code("nodes_unavailable"));
    one.ended("failed", { code: "upstream_rate_limited" });
    await expect(router.route(parsed("gpt-x"), {}, options())).rejects.toThrow(code("nodes_unavailable"));
    pass(1_000);
    await router.route(parsed("gpt-x"), {}, options());
  });
});

describe("callers", () => {
  it("have so many requests at the same time, and others have theirs", async () => {
    const { router } = setup({ limits: { maxPerOwner: 2 } });
    const route = (owner?: string) =>
      router.route(parsed("demo/chat"), owner === undefined ? {} : { owner }, options());
    const [one, two] = [await route("a"), await route("a")];
    one.started();
    one.started();
    expect(await route("a")).toBeDefined();
    two.started();
    await expect(route("a")).rejects.toThrow(
      expect.objectContaining({ code: "caller_overloaded", retryAfterMs: 1000 }),
    );
    (await route("b")).started();
    for (let i = 0; i < 5; i++) (await route()).started();
    one.ended("cancelled");
    one.ended("cancelled");
    one.started();
    const three = await route("a");
    three.started();
    await expect(route("a")).rejects.toThrow(code("caller_overloaded"));
    three.ended("ok", { outcome });
    two.ended("failed", { code: "parameter_unsupported" });
    expect(await route("a")).toBeDefined();
  });

  it("have 256 at the same time where nobody set it otherwise", async () => {
    const { router } = setup();
    for (let i = 0; i < MAX_PER_OWNER; i++)
      (await router.route(parsed("demo/chat"), { owner: "a" }, options())).started();
    await expect(router.route(parsed("demo/chat"), { owner: "a" }, options())).rejects.toThrow(
      code("caller_overloaded"),
    );
  });

  it("without a token are limited by their address only where that is set", async () => {
    const at = { remoteAddress: "192.0.2.1" };
    const { router } = setup({ limits: { maxPerAddress: 1 } });
    (await router.route(parsed("demo/chat"), at, options())).started();
    await expect(router.route(parsed("demo/chat"), at, options())).rejects.toThrow(code("caller_overloaded"));
    await router.route(parsed("demo/chat"), { remoteAddress: "192.0.2.2" }, options());
    const { router: open } = setup();
    for (let i = 0; i < 300; i++) (await open.route(parsed("demo/chat"), at, options())).started();
    expect(open.stats().inFlight).toBe(300);
  });
});

describe("what the service statement gets", () => {
  const priced = upstream("openai", ["gpt-x"], {
    prices: { "*": { asset: "USDC", perCall: "0.001", perMillionInputTokens: "1", perMillionOutputTokens: "2" } },
  });

  it("is a claim that can be encoded, and says how the choice was made", async () => {
    const { router } = setup({ upstreams: [priced], nodes: [node("b", [holds(chat)])] });
    const receiptId = new Uint8Array(16).fill(9);
    const routed = await router.route(parsed("demo/chat"), {}, { ...options(), receiptId } as never);
    const parts = routed.service(outcome);
    const claims = decodeClaims(
      "service",
      encodeClaims("service", {
        profile: PROFILE.service,
        receiptId,
        executionDigest: new Uint8Array(32),
        issuedAtMs: NOW,
        retention: "none",
        ...parts,
      }),
    );
    expect(claims.route).toStrictEqual(parts.route);
    expect(claims.route?.chosen).toBe(routed.executor.subject);
    expect(claims.route?.facts?.["target"]).toBe(routed.candidate);
    expect(claims.route?.facts?.["seed"]).toStrictEqual(routeSeed(suite, receiptId, new Uint8Array(32).fill(2)));
    expect(claims.assurance).toStrictEqual({
      asked: "vanilla",
      given: "vanilla",
      reason: "Nothing more was asked for.",
    });
    expect(claims.price).toStrictEqual({ amountAtomic: "0", asset: "USDC", rateSource: "listing", unit: "1e-6" });
  });

  it("has the price of what was used", async () => {
    const { router } = setup({ upstreams: [priced] });
    const routed = await router.route(parsed("gpt-x"), {}, options());
    expect(routed.service(outcome).price?.amountAtomic).toBe("2200");
    const { router: without } = setup({ upstreams: [upstream("openai", ["gpt-x"])] });
    expect((await without.route(parsed("gpt-x"), {}, options())).service(outcome).price).toBeUndefined();
  });

  it("names the assurance that a value at risk demands", async () => {
    const { router } = setup({ upstreams: [priced] });
    const routed = await router.route(parsed("demo/chat", { routing: { valueAtRisk: "500" } }), {}, options());
    expect(routed.service(outcome).assurance).toMatchObject({ asked: "vanilla+audit", given: "vanilla+audit" });
    expect(routed.service(outcome).route?.facts?.["auditShare"]).toBe("0.05");
    await expect(router.route(parsed("gpt-x", { routing: { valueAtRisk: "500" } }), {}, options())).rejects.toThrow(
      code("assurance_unavailable"),
    );
    await expect(
      router.route(parsed("demo/chat", { routing: { valueAtRisk: "5000" } }), {}, options()),
    ).rejects.toThrow(code("assurance_unavailable"));
  });

  it("is refused where a node ran in a weaker mode than it was chosen for", async () => {
    const tee = node("tee", [holds(chat)], {
      securityModes: ["vanilla", "tee"],
      attestation: { verifiedAtMs: NOW - 1000, expiresAtMs: NOW + 100_000 },
    });
    const { router } = setup({ nodes: [tee] });
    const routed = await router.route(parsed("demo/chat", { routing: { mode: "tee" } }), {}, options());
    expect(routed.executor.subject).toBe(tee.subject);
    expect(routed.service({ ...outcome, mode: "tee" } as TextOutcome).assurance).toMatchObject({
      asked: "tee",
      given: "tee",
    });
    expect(() => routed.service(outcome)).toThrow(code("assurance_unavailable"));
  });
});

describe("tensors", () => {
  const model = { name: "demo/digits", version: 3, manifestDigest: digestOf("digits") };
  const far = node("far", [
    { engine: "onnx", model: "demo/digits", version: "3", manifestDigest: model.manifestDigest, kinds: ["tensor"] },
  ]);

  it("run here or where the same manifest is, and are counted", () => {
    const { router } = setup({ nodes: [far] });
    const here = router.routeTensor(model, {}, { exclude: new Set(["urn:assay:node:far#onnx/demo/digits@3"]) });
    expect(here.remote).toBeUndefined();
    here.started();
    expect(router.stats().inFlight).toBe(1);
    here.ended("ok", { engineMs: 1 });
    expect(router.stats().inFlight).toBe(0);
    expect(here.service().price?.amountAtomic).toBe("0");
    const there = router.routeTensor(model, {}, { exclude: new Set([here.candidate]) });
    expect(there.remote).toBe(far.subject);
  });

  it("keep every limit", () => {
    const { router } = setup({ nodes: [far] });
    const route = (limits: Parameters<typeof router.routeTensor>[1], ...exclude: string[]) =>
      router.routeTensor(model, limits, { exclude: new Set(exclude) });
    expect(route({ jurisdiction: ["DE"] }).remote).toBeUndefined();
    expect(() => route({ jurisdiction: ["US"] })).toThrow(code("no_route"));
    expect(() => route({ mode: "zkml" })).toThrow(code("assurance_unavailable"));
    const other = { ...model, manifestDigest: digestOf("other") };
    const here = router.routeTensor(other, {}, { exclude: new Set() }).candidate;
    expect(() => router.routeTensor(other, {}, { exclude: new Set([here]) })).toThrow(code("no_route"));
  });
});

describe("an explanation", () => {
  it("has every candidate with its outcome and counts nothing", async () => {
    const { router } = setup({ upstreams: [upstream("openai", ["gpt-x"])], nodes: [node("b", [holds(chat)])] });
    const found = await router.explain(parsed("any", { routing: { objective: "price", maxPrice: "1" } }), {});
    expect(found.objective).toBe("price");
    expect(found.candidates.map(({ candidate, outcome: how }) => [candidate.replace(/^.*#/, ""), how])).toStrictEqual(
      expect.arrayContaining([
        ["openai/gpt-x", "refused:price_unknown"],
        ["local/demo/embed@1", "refused:kind"],
      ]),
    );
    expect(found.choice?.reason.length).toBeGreaterThan(10);
    expect(found.refusal).toBeNull();
    expect(router.stats().inFlight).toBe(0);
  });

  it("shows so many candidates, the chosen among them", async () => {
    const nodes = Array.from({ length: MAX_EXPLAINED + 5 }, (_, i) =>
      node(`n${i}`, [holds(chat)], i % 100 === 7 ? {} : { draining: true }),
    );
    const { router } = setup({ nodes });
    const { candidates, choice } = await router.explain(parsed("demo/chat"), {});
    expect(candidates).toHaveLength(MAX_EXPLAINED);
    expect(candidates[0]?.candidate).toBe(choice?.candidate);
  });

  it("says why nobody may answer instead of throwing it", async () => {
    const { router } = setup();
    const found = await router.explain(parsed("demo/chat", { routing: { jurisdiction: ["US"] } }), {});
    expect(found.choice).toBeNull();
    expect(found.refusal?.code).toBe("no_route");
    await expect(router.explain(parsed("demo/nothing"), {})).rejects.toThrow(code("model_not_found"));
  });
});
