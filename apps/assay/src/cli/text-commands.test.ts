import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { disclosed, viewReceipt } from "@assay/receipts";
import { nodeSuite } from "@assay/driver-crypto";
import { openAiHandler, serveWire } from "@assay/testkit/upstream";
import type { WireServer } from "@assay/testkit/upstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer } from "../server/start-server.ts";
import { makeFakeHome } from "./testing/fake-world.ts";
import type { FakeHome, FakeStreams, Ran } from "./testing/fake-world.ts";
import type { RunningServer, World } from "./world.ts";

const repository = fileURLToPath(new URL("../../../..", import.meta.url));
const source = ["--conditions=assay-source", "--import", "tsx"];
const KEY = "sk-cli-secret-0123456789abcdef";

let home: FakeHome;
let server: RunningServer;
let little: WireServer;
const at = (name: string): string => join(home.home, name);
const overTcp: Partial<World> = { fetch: (url, init) => fetch(url, init) };
const assay = (...args: readonly string[]): Promise<Ran> => home.run([...args, "--debug"], overTcp);
const assayWith = (changes: Partial<World> & FakeStreams, ...args: readonly string[]): Promise<Ran> =>
  home.run([...args, "--debug"], { ...overTcp, ...changes });
const json = async (...args: readonly string[]): Promise<Record<string, unknown>> => {
  const ran = await assay(...args, "--json");
  expect(ran.err, ran.err).toBe("");
  return JSON.parse(ran.out) as Record<string, unknown>;
};
const receipts = (): readonly string[] =>
  (existsSync(at("receipts")) ? readdirSync(at("receipts")) : []).filter((name) => name.endsWith(".receipt"));
const viewOf = (path: string) => {
  const taken = viewReceipt(nodeSuite, readFileSync(path));
  if (!("view" in taken)) throw new Error("the receipt cannot be read");
  return taken.view;
};

beforeAll(async () => {
  home = makeFakeHome();
  server = await startServer({
    home: home.home,
    host: "127.0.0.1",
    port: 0,
    seed: false,
    version: "0.0.0-test",
    childEntry: join(repository, "packages/driver-ort/src/child/main.ts"),
    nodeArgs: source,
    languageChild: { childEntry: join(repository, "packages/driver-llm/src/child/main.ts"), nodeArgs: source },
    logLevel: "silent",
  });
  writeFileSync(at("gateway.json"), JSON.stringify({ url: server.url, pid: process.pid }));
  await server.databaseReady;
  little = await serveWire(openAiHandler);
  const imported = await assay("model", "import", join(repository, "models/chat"), "--name", "demo/chat");
  if (imported.code !== 0) throw new Error(imported.err);
});
afterAll(async () => {
  await server.close();
  await little.close();
  home.remove();
});

describe("chat", () => {
  test("answers, keeps the receipt and verifies it", async () => {
    const { code, out, err } = await assay("chat", "What is 17 + 25?");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("● Verified here.");
    expect(out).toMatch(/demo\/chat@1 {2}\d+ tokens in, \d+ out/);
    const [, path = ""] = /Kept at {2}(\S+)/.exec(out) ?? [];
    expect(await assay("verify", path)).toMatchObject({ code: 0 });
    expect((await assay("receipt", "show", path)).out).toContain("What is 17 + 25?");
  });

  test("--json is one object with text, usage and verdict", async () => {
    const answer = await json(
      "chat",
      "What is 17 + 25?",
      "--temperature",
      "0",
      "--max-tokens",
      "12",
      "--save",
      "mine.receipt",
    );
    expect(answer).toMatchObject({
      model: "demo/chat@1",
      text: expect.any(String) as string,
      finishReason: expect.stringMatching(/^(stop|length)$/) as string,
      usage: { prompt_tokens: expect.any(Number) as number, completion_tokens: expect.any(Number) as number },
      verdict: { status: "verified" },
    });
    expect(readFileSync(at("mine.receipt"))).toEqual(readFileSync(String(answer["path"])));
    expect(viewOf(at("mine.receipt")).execution.claims.parameters).toMatchObject({ temperature: 0, max_tokens: 12 });
  });

  test("a seed repeats it; system message, stops and the nucleus are passed on", async () => {
    const args = ["chat", "Count from 1 to 20.", "--temperature", "2", "--seed", "5", "--max-tokens", "24"];
    const [one, again] = [await json(...args), await json(...args)];
    expect(again["text"]).toBe(one["text"]);
    // One other seed may happen to say the same; five do not.
    const others: unknown[] = [];
    for (const seed of ["6", "7", "8", "9", "10"]) others.push((await json(...args.with(5, seed)))["text"]);
    expect(others.some((text) => text !== one["text"])).toBe(true);
    const more = await json(...args, "--system", "Be brief.", "--top-p", "0.5", "--stop", "zz", "--stop", "qq");
    const { execution, ...view } = viewOf(String(more["path"]));
    expect(execution.claims.parameters).toMatchObject({ top_p: "0.5", stop: ["zz", "qq"], seed: 5 });
    const { texts } = disclosed({ execution, ...view });
    expect(texts.find(({ name }) => name === "messages")?.text).toBe(
      '[{"role":"system","content":"Be brief."},{"role":"user","content":"Count from 1 to 20."}]',
    );
  });

  test("--schema gives JSON of that schema", async () => {
    const schema = {
      type: "object",
      properties: { answer: { type: "integer" } },
      required: ["answer"],
      additionalProperties: false,
    };
    writeFileSync(at("sum.json"), JSON.stringify(schema));
    const { text } = await json("chat", "What is 17 + 25?", "--schema", "sum.json");
    expect(JSON.parse(String(text))).toEqual({ answer: expect.any(Number) as number });
  });

  test("--tools are offered, and stated by their names", async () => {
    const parameters = {
      type: "object",
      properties: { city: { type: "string", maxLength: 20 } },
      required: ["city"],
      additionalProperties: false,
    };
    writeFileSync(
      at("tools.json"),
      JSON.stringify([{ type: "function", function: { name: "get_weather", parameters } }]),
    );
    const args = ["chat", "What is the weather in Paris?", "--tools", "tools.json", "--max-tokens", "200"];
    const answer = await json(...args);
    const { claims } = viewOf(String(answer["path"])).execution;
    expect(claims.parameters).toMatchObject({ tool_choice: "auto" });
    const calls =
      (answer["message"] as { readonly tool_calls?: readonly { readonly function: { readonly name: string } }[] })
        .tool_calls ?? [];
    const { out } = await assay(...args, "--temperature", "0");
    for (const call of calls) expect(out).toContain(`${call.function.name}(`);
  });

  test("the question may come over standard input, and a conversation from a terminal", async () => {
    const piped = await assayWith({ input: new TextEncoder().encode("What is 2 + 2?\n") }, "chat", "--json");
    expect(JSON.parse(piped.out)).toMatchObject({ verdict: { status: "verified" } });
    const lines = ["Hello", "And again", ""];
    const before = receipts().length;
    const talk = await assayWith({ readLine: () => Promise.resolve(lines.shift()) }, "chat");
    expect(talk.code).toBe(0);
    expect(receipts()).toHaveLength(before + 2);
    const latest = receipts().toSorted().at(-1) ?? "";
    const { texts } = disclosed(viewOf(at(`receipts/${latest}`)));
    const said = JSON.parse(texts.find(({ name }) => name === "messages")?.text ?? "") as readonly {
      readonly role: string;
    }[];
    expect(said.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
  });

  test.each<readonly [string, readonly string[], number]>([
    ["no question", [], 2],
    ["a temperature that is no number", ["q", "--temperature", "warm"], 2],
    ["a temperature that no model has", ["q", "--temperature", "3"], 1],
    ["no tokens at all", ["q", "--max-tokens", "0"], 2],
    ["a seed with a fraction", ["q", "--seed", "1.5"], 2],
    ["a schema that is not there", ["q", "--schema", "missing.json"], 1],
    ["a schema that is no JSON", ["q", "--schema", "broken.json"], 1],
    ["a schema that no grammar holds", ["q", "--schema", "not.json"], 1],
    ["tools that are none", ["q", "--tools", "not.json"], 1],
    ["a model that is not there", ["q", "--model", "demo/none"], 1],
    ["a jurisdiction of nothing", ["q", "--jurisdiction", "DE,"], 2],
    ["an objective that is none", ["q", "--objective", "cheapest"], 2],
    ["a place where nobody runs", ["q", "--jurisdiction", "JP"], 14],
    ["a gateway that is not there", ["q", "--url", "http://127.0.0.1:1"], 14],
  ])("%s is refused and leaves no receipt", async (_, args, code) => {
    writeFileSync(at("broken.json"), "{");
    writeFileSync(at("not.json"), '{"not": {"type": "string"}}');
    const before = receipts().length;
    const ran = await assay("chat", ...args);
    expect({ code: ran.code, out: ran.out, told: ran.err !== "" }, ran.err).toEqual({ code, out: "", told: true });
    expect(receipts()).toHaveLength(before);
  });
});

describe("verify --reexecute", () => {
  let path: string;
  beforeAll(async () => {
    path = String((await json("chat", "What is 17 + 25?", "--temperature", "0.9", "--seed", "3"))["path"]);
  });

  test("agrees with the copy in this home, with a pulled one, and with the folder that was imported", async () => {
    const own = await assay("verify", path, "--reexecute");
    expect({ code: own.code, err: own.err }).toEqual({ code: 0, err: "" });
    expect(own.out).toMatch(/● re-execution {3}Checked again in one pass: all \d+ tokens are this model's/);
    expect(await assay("model", "pull", "demo/chat", "--to", "pulled")).toMatchObject({ code: 0 });
    expect(await assay("verify", path, "--reexecute", "--model", "pulled")).toMatchObject({ code: 0 });
    const imported = await assay("verify", path, "--reexecute", "--model", join(repository, "models/chat"));
    expect(imported.code, imported.err).toBe(0);
    const told = JSON.parse((await assay("verify", path, "--reexecute", "--json")).out) as {
      readonly checks: readonly { readonly check: string; readonly code: string }[];
    };
    expect(told.checks.find(({ check }) => check === "re-execution")?.code).toBe("reexecution_agrees");
  });

  test("a model that was changed, is another, or is nowhere is not run", async () => {
    cpSync(at("pulled"), at("changed"), { recursive: true });
    const graph = readFileSync(at("pulled/model.onnx"));
    graph[graph.length - 100] = (graph[graph.length - 100] ?? 0) ^ 1;
    writeFileSync(at("changed/model.onnx"), graph);
    for (const model of ["changed", join(repository, "models/digits"), "nowhere"]) {
      const { code, out } = await assay("verify", path, "--reexecute", "--model", model);
      expect({ code, out }, model).toEqual({ code: 1, out: "" });
    }
    const stranger = makeFakeHome();
    try {
      const alone = await stranger.run(["verify", path, "--reexecute", "--trust", at("trust.json")]);
      expect([alone.code, alone.err.includes("--model")]).toEqual([2, true]);
    } finally {
      stranger.remove();
    }
  });

  test("an upstream's answer, and one that does not disclose its tokens, cannot be checked again", async () => {
    await json("upstream", "add", `${little.url}/v1`, "--name", "little");
    const other = await json("chat", "Hello", "--model", "little/little-chat");
    const ran = await assay("verify", String(other["path"]), "--reexecute");
    expect([ran.code, ran.out, ran.err.includes("reexecution_impossible")]).toEqual([1, "", true]);
    const id = path.slice(path.lastIndexOf("/") + 1, -".receipt".length);
    const { bytes } = await assayWith({ fetch: (url, init) => fetch(url, init) }, "receipt", "export", id);
    const closed = makeFakeHome();
    try {
      mkdirSync(join(closed.home, "x"));
      writeFileSync(join(closed.home, "x/closed.receipt"), bytes);
      const again = await closed.run([
        "verify",
        "x/closed.receipt",
        "--reexecute",
        "--trust",
        at("trust.json"),
        "--model",
        at("pulled"),
      ]);
      expect([again.code, again.out]).toEqual(bytes.length < readFileSync(path).length ? [1, ""] : [0, again.out]);
    } finally {
      closed.remove();
      await assay("upstream", "rm", "little");
    }
  });
});

describe("upstream", () => {
  test("is added with a key from the environment or a file, listed and removed; the key is never shown", async () => {
    const shown: string[] = [];
    const keep = (ran: Ran): Ran => {
      shown.push(ran.out, ran.err);
      return ran;
    };
    const variable = (name: string) => (name === "LITTLE_KEY" ? KEY : undefined);
    const added = keep(
      await assayWith(
        { variable },
        "upstream",
        "add",
        `${little.url}/v1`,
        "--name",
        "little",
        "--key-env",
        "LITTLE_KEY",
        "--country",
        "de",
        "--per-call",
        "0.02",
      ),
    );
    expect({ code: added.code, err: added.err }).toEqual({ code: 0, err: "" });
    expect(added.out).toMatch(/kept encrypted, fingerprint [0-9a-f]{8}/);
    expect(
      keep(
        await assay("chat", "Hello", "--model", "little/little-chat", "--jurisdiction", "DE", "--max-price", "0.02"),
      ),
    ).toMatchObject({ code: 0 });
    expect(little.requests.at(-1)?.headers.authorization).toBe(`Bearer ${KEY}`);

    const taken = keep(await assay("upstream", "add", `${little.url}/v1`, "--name", "little"));
    expect([taken.code, taken.err.includes("upstream_exists")]).toEqual([1, true]);
    writeFileSync(at("key.txt"), `${KEY}2\n`);
    keep(await assay("upstream", "add", `${little.url}/v1`, "--name", "little", "--key-file", "key.txt", "--replace"));
    await assay("chat", "Hello", "--model", "little/little-chat");
    expect(little.requests.at(-1)?.headers.authorization).toBe(`Bearer ${KEY}2`);
    keep(
      await assayWith(
        { input: new TextEncoder().encode(`${KEY}3`) },
        "upstream",
        "add",
        `${little.url}/v1`,
        "--key-file",
        "-",
      ),
    );
    const { upstreams } = (await json("upstream", "ls")) as {
      readonly upstreams: readonly { readonly name: string; readonly keyFingerprint: string }[];
    };
    expect(upstreams.map(({ name }) => name)).toEqual(["127-0-0-1", "little"]);
    expect(new Set(upstreams.map(({ keyFingerprint }) => keyFingerprint)).size).toBe(2);
    expect(keep(await assay("upstream", "ls")).out).toMatch(/little +openai-compatible +http:/);
    for (const name of ["127-0-0-1", "little"])
      expect(keep(await assay("upstream", "rm", name))).toMatchObject({ code: 0 });
    expect(keep(await assay("upstream", "ls")).out).toContain("No upstream.");
    expect(shown.filter((text) => text.includes(KEY))).toEqual([]);
  });

  test.each<readonly [string, readonly string[], number, string]>([
    ["what is no provider and no address", ["add", "nonsense"], 2, "usage_invalid"],
    ["a variable that is not set", ["add", "openai", "--key-env", "NOT_SET"], 2, "usage_invalid"],
    ["a key file that is not there", ["add", "openai", "--key-file", "none.txt"], 1, "file_unreadable"],
    ["a plain address elsewhere", ["add", "http://192.0.2.7/v1"], 1, "upstream_invalid"],
    ["a country that is none", ["add", "http://127.0.0.1:9/v1", "--country", "Germany"], 1, "request_invalid"],
    ["one that is not there", ["rm", "nobody"], 1, "upstream_not_found"],
  ])("%s is refused", async (_, args, code, told) => {
    const ran = await assay("upstream", ...args);
    expect([ran.code, ran.out, ran.err.includes(told)], ran.err).toEqual([code, "", true]);
  });

  test("is the operator's alone", async () => {
    const stranger = makeFakeHome(overTcp);
    try {
      for (const args of [
        ["upstream", "ls"],
        ["upstream", "add", `${little.url}/v1`],
        ["route", "set", "x", "demo/chat"],
        ["route", "ls"],
      ]) {
        const ran = await stranger.run([...args, "--url", server.url]);
        expect([ran.code, ran.out], args.join(" ")).toEqual([13, ""]);
      }
    } finally {
      stranger.remove();
    }
  });
});

describe("route", () => {
  test("a name is set, listed, used, explained and removed", async () => {
    const set = await assay("route", "set", "support", "demo/chat", "--objective", "latency", "--family", "llama");
    expect([set.code, set.out.includes("support is answered by demo/chat.")]).toEqual([0, true]);
    expect((await assay("route", "ls")).out).toMatch(/support +demo\/chat +latency +family: llama/);
    expect(await json("chat", "Hello", "--model", "support")).toMatchObject({
      model: "demo/chat@1",
      verdict: { status: "verified" },
    });
    const explained = await assay("route", "explain", "support");
    expect([explained.code, explained.err]).toEqual([0, ""]);
    expect(explained.out).toMatch(/demo\/chat@1.*chosen/);
    expect(explained.out).toContain("latency");
    expect(await json("route", "explain", "support", "--kind", "completion", "--max-tokens", "5")).toMatchObject({
      contract: "support",
      objective: "latency",
      refusal: null,
    });
    expect(await assay("route", "rm", "support")).toMatchObject({ code: 0 });
    expect((await assay("route", "ls")).out).toContain("No name of your own.");
    expect((await assay("chat", "Hello", "--model", "support")).err).toContain("model_not_found");
  });

  test("who would not answer is told with the reason, and the exit code says that nobody is there", async () => {
    const none = await assay("route", "explain", "any", "--jurisdiction", "JP", "--value-at-risk", "50");
    expect(none.code).toBe(14);
    expect(none.out).toContain("refused:jurisdiction");
    expect((await assay("route", "explain", "demo/chat", "--value-at-risk", "5000")).out).toContain("tee");
    const before = receipts().length;
    expect((await assay("route", "explain")).code).toBe(0);
    expect(receipts()).toHaveLength(before);
  });

  test.each<readonly [string, readonly string[], number]>([
    ["a name with a meaning of its own", ["set", "any", "demo/chat"], 1],
    ["a name with a slash", ["set", "a/b", "demo/chat"], 1],
    ["a name for nothing", ["set", "alone"], 2],
    ["a price that is none", ["set", "x", "demo/chat", "--max-price", "cheap"], 1],
    ["a name that is not there, removed", ["rm", "nothing"], 1],
    ["an explanation of a model that is not there", ["explain", "demo/none"], 1],
  ])("%s is refused", async (_, args, code) => {
    const ran = await assay("route", ...args);
    expect([ran.code, ran.out], ran.err).toEqual([code, ""]);
    expect((await assay("route", "ls")).out).toContain("No name of your own.");
  });
});

describe("proxy", () => {
  /** Runs `assay proxy` while `use` runs with a client of OpenAI's that knows nothing of it. */
  async function proxied(args: readonly string[], use: (client: OpenAI) => Promise<void>): Promise<Ran> {
    const controller = new AbortController();
    const port = await freePort();
    const running = assayWith({ interrupt: controller.signal }, "proxy", "--port", String(port), ...args);
    try {
      const baseURL = `http://127.0.0.1:${port}/v1`;
      await expect
        .poll(
          () =>
            fetch(`${baseURL}/models`).then(
              ({ status }) => status,
              () => 0,
            ),
          { timeout: 20_000 },
        )
        .toBe(200);
      await use(new OpenAI({ baseURL, apiKey: "sk-none", maxRetries: 0 }));
    } finally {
      controller.abort();
    }
    return running;
  }
  const messages = [{ role: "user" as const, content: "What is 17 + 25?" }];

  test.each(["before-release", "after"])(
    "verified %s: an unchanged client hears the answer, and the receipts are kept",
    async (verify) => {
      const before = receipts().length;
      const ran = await proxied(["--verify", verify], async (client) => {
        const whole = await client.chat.completions.create({ model: "demo/chat", messages, temperature: 0 });
        let text = "";
        for await (const chunk of await client.chat.completions.create({
          model: "demo/chat",
          messages,
          temperature: 0,
          stream: true,
        }))
          text += chunk.choices[0]?.delta.content ?? "";
        expect(text).toBe(whole.choices[0]?.message.content);
        await expect(client.chat.completions.create({ model: "demo/none", messages })).rejects.toMatchObject({
          status: 404,
          code: "model_not_found",
        });
      });
      expect([ran.code, ran.out.includes("OPENAI_BASE_URL=")]).toEqual([0, true]);
      expect(receipts()).toHaveLength(before + 2);
      const latest = receipts().toSorted().at(-1) ?? "";
      expect(await assay("verify", at(`receipts/${latest}`), "--reexecute")).toMatchObject({ code: 0 });
    },
  );

  test("what breaks the policy or the wishes is not let through", async () => {
    writeFileSync(at("other.policy"), JSON.stringify({ modelDigest: "00".repeat(32) }));
    await proxied(["--policy", "other.policy"], async (client) => {
      await expect(client.chat.completions.create({ model: "demo/chat", messages })).rejects.toMatchObject({
        status: 502,
        code: "receipt_failed",
      });
    });
    await proxied(["--jurisdiction", "JP"], async (client) => {
      await expect(client.chat.completions.create({ model: "demo/chat", messages })).rejects.toMatchObject({
        status: 422,
        code: "no_route",
      });
    });
    expect((await assay("proxy", "--port", "99999")).code).toBe(2);
    expect((await assay("proxy", "--policy", "missing.policy")).code).not.toBe(0);
  });
});

describe("model import", () => {
  const folder = join(repository, "models/chat");
  const files = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

  test("a folder gives what belongs to the model and nothing else", async () => {
    const imported = await json("model", "import", folder, "--name", "me/chat");
    expect(imported).toMatchObject({ name: "me/chat", version: 1 });
    expect(await assay("model", "pull", "me/chat", "--to", "mine")).toMatchObject({ code: 0 });
    expect(readdirSync(at("mine")).toSorted()).toEqual([
      "card.md",
      "config.json",
      "generation_config.json",
      "manifest.json",
      "model.onnx",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(await json("chat", "Hello", "--model", "me/chat")).toMatchObject({ verdict: { status: "verified" } });
  });

  test("a folder without a graph, without a tokenizer, or with several graphs is refused", async () => {
    mkdirSync(at("bare"), { recursive: true });
    for (const [name, more] of [
      ["bare", []],
      ["bare", ["--file", "model.onnx"]],
    ] as const)
      expect(await assay("model", "import", name, "--name", "me/bare", ...more)).toMatchObject({ code: 1, out: "" });
    cpSync(join(folder, "model.onnx"), at("bare/a.onnx"));
    expect((await assay("model", "import", "bare", "--name", "me/bare")).err).toContain("tokenizer.json");
    cpSync(join(folder, "model.onnx"), at("bare/b.onnx"));
    expect((await assay("model", "import", "bare", "--name", "me/bare")).err).toContain("2 .onnx files");
    for (const file of files) cpSync(join(folder, file), at(`bare/${file}`));
    expect(await assay("model", "import", "bare", "--name", "me/bare", "--file", "b.onnx")).toMatchObject({ code: 0 });
    expect((await assay("model", "import", "bare", "--name", "no-namespace")).code).toBe(2);
  });

  describe("from a hub", () => {
    type Hub = { readonly url: string; readonly asked: string[]; readonly close: () => Promise<void> };
    type Answer = (path: string, request: IncomingMessage, response: ServerResponse) => void;
    /** A hub that lists `entries` and serves the files of the chat model, unless `answer` does it. */
    async function hub(entries: readonly unknown[], answer?: Answer): Promise<Hub> {
      const asked: string[] = [];
      const web = createServer((request, response) => {
        const path = request.url ?? "";
        asked.push(path);
        if (answer) answer(path, request, response);
        if (response.writableEnded || response.headersSent || response.destroyed) return;
        if (path.startsWith("/api/models/tiny/talk/tree/main")) {
          response.setHeader("content-type", "application/json");
          response.end(JSON.stringify(entries));
          return;
        }
        const file = /^\/tiny\/talk\/resolve\/main\/(.+)$/.exec(path)?.[1];
        if (file !== undefined && existsSync(join(folder, file.replace("onnx/", ""))))
          response.end(readFileSync(join(folder, file.replace("onnx/", ""))));
        else response.writeHead(404).end();
      });
      await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
      return {
        url: `http://127.0.0.1:${(web.address() as AddressInfo).port}`,
        asked,
        close: () =>
          new Promise((resolve) => {
            web.close(() => resolve());
            web.closeAllConnections();
          }),
      };
    }
    const listed = (...paths: readonly string[]) => paths.map((path) => ({ type: "file", path, size: 1 }));
    const honest = [
      { type: "directory", path: "onnx" },
      ...listed("onnx/model.onnx", "onnx/model_q4.onnx", ...files, "README.md.bak", "pytorch_model.bin"),
    ];
    const leftovers = (): readonly string[] => (existsSync(at("imports")) ? readdirSync(at("imports")) : []);
    const importing = async (from: Hub, ...args: readonly string[]): Promise<Ran> => {
      const ran = await assay("model", "import", "tiny/talk", "--endpoint", from.url, "--name", "me/hub", ...args);
      expect(leftovers()).toEqual([]);
      return ran;
    };

    test("fetches the usual graph and what belongs to it, and releases it", async () => {
      const from = await hub(honest);
      const ran = await importing(from, "--json");
      expect([ran.code, ran.err]).toEqual([0, ""]);
      expect(JSON.parse(ran.out)).toMatchObject({ name: "me/hub", files: 5 });
      expect(from.asked.some((path) => /bin$|q4|bak/.test(path))).toBe(false);
      expect(await json("chat", "Hello", "--model", "me/hub")).toMatchObject({ verdict: { status: "verified" } });
      await from.close();
    });

    test("paths that lead out of the folder are never asked for, and never written", async () => {
      const from = await hub([
        ...honest,
        ...listed(
          "../../escaped.md",
          "/etc/README.md",
          "a/../../card.md",
          "C:\\README.md",
          ".",
          "..",
          "",
          "a//card.md",
        ),
        { type: "file", path: 7 },
        null,
        "README.md",
      ]);
      expect((await importing(from)).code).toBe(0);
      expect(from.asked.some((path) => /\.\.|etc|escaped|C:/.test(decodeURIComponent(path)))).toBe(false);
      expect(existsSync(at("escaped.md")) || existsSync(at("card.md"))).toBe(false);
      await from.close();
    });

    test.each<readonly [string, readonly unknown[], Answer | undefined, readonly string[], string]>([
      [
        "nothing of that name",
        honest,
        (_path, _request, response) => void response.writeHead(404).end(),
        [],
        "hub_unreachable",
      ],
      [
        "a model that is private",
        honest,
        (_path, _request, response) => void response.writeHead(401).end(),
        [],
        "hub_unreachable",
      ],
      [
        "a hub that fails",
        honest,
        (_path, _request, response) => void response.writeHead(503).end(),
        [],
        "hub_unreachable",
      ],
      [
        "a listing that is no JSON",
        honest,
        (path, _request, response) => void (path.startsWith("/api") && response.end("<html>")),
        [],
        "something else than a list",
      ],
      [
        "a listing that is none",
        honest,
        (path, _request, response) => void (path.startsWith("/api") && response.end('{"error":"x"}')),
        [],
        "model_files_invalid",
      ],
      [
        "a listing without an end",
        honest,
        (path, _request, response) => {
          if (path.startsWith("/api")) response.write("[".padEnd(9 * 1024 * 1024));
        },
        [],
        "model_files_invalid",
      ],
      ["no tokenizer", listed("onnx/model.onnx", "config.json"), undefined, [], "tokenizer.json"],
      ["no graph", listed(...files), undefined, [], "no .onnx file"],
      [
        "a graph that was named and is not there",
        honest,
        undefined,
        ["--file", "onnx/other.onnx"],
        "has no file onnx/other.onnx",
      ],
      ["a revision that is not there", honest, undefined, ["--revision", "v9"], "hub_unreachable"],
      [
        "a file that ends too early",
        honest,
        (path, _request, response) => {
          if (!path.endsWith("model.onnx")) return;
          response.writeHead(200, { "content-length": "5000000" });
          response.write(Buffer.alloc(1000), () => response.destroy());
        },
        [],
        "hub_unreachable",
      ],
      [
        "a file that is listed and missing",
        [...honest, ...listed("card.md.x", "LICENSE.txt")],
        undefined,
        [],
        "hub_unreachable",
      ],
      [
        "a graph that is none",
        honest,
        (path, _request, response) => void (path.endsWith("model.onnx") && response.end("not a graph")),
        [],
        "onnx",
      ],
    ])("%s is told, and nothing is released", async (_, entries, answer, args, told) => {
      const from = await hub(entries, answer);
      const before = (await json("model", "show", "me/hub"))["versions"];
      const ran = await importing(from, ...args);
      expect([ran.code, ran.out, ran.err.includes(told)], ran.err).toEqual([1, "", true]);
      expect((await json("model", "show", "me/hub"))["versions"]).toEqual(before);
      await from.close();
    });

    test("a hub that is not there, and a name that is none", async () => {
      const nobody = await assay(
        "model",
        "import",
        "tiny/talk",
        "--endpoint",
        "http://127.0.0.1:1",
        "--name",
        "me/hub",
      );
      expect([nobody.code, nobody.err.includes("hub_unreachable")]).toEqual([1, true]);
      expect((await assay("model", "import", "no-such-folder", "--name", "me/hub")).err).toContain("file_unreadable");
    });
  });
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise<void>((resolve) => probe.close(() => resolve()));
  return port;
}
