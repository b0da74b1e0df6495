import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { base64UrlToBytes, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createLocalEngine } from "@assay/driver-llm";
import type { LocalEngine } from "@assay/driver-llm";
import { assemble } from "@assay/protocol";
import type { LanguageModelFiles, TextDialect } from "@assay/protocol";
import { commitFields, jsonFields, viewReceipt } from "@assay/receipts";
import type { ReceiptView, Trust, Verdict } from "@assay/receipts";
import { openBundle, openTextBundle, TEXT_PATHS } from "@assay/sdk";
import type { TextExchange } from "@assay/sdk";
import { fixedSeed, makeReceipt } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import { checkText } from "../../apps/assay/src/check-text.ts";
import type { TextCheck } from "../../apps/assay/src/check-text.ts";
import { sourceChild as ortChild } from "../../packages/driver-ort/src/testing/models.ts";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import { modelFolders, tinyEncoder } from "../../packages/driver-llm/src/testing/tiny-model.ts";
import { mintToken, openHome, release } from "./running-server.ts";
import type { Json, ModelFileBytes, ServerHome } from "./running-server.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));

/** How children that hold language models are started from their source. */
export const languageChild = {
  childEntry: join(repository, "packages/driver-llm/src/child/main.ts"),
  nodeArgs: ortChild().nodeArgs ?? [],
};

/** What `assay model import` takes of a folder. */
export function modelFiles(folder: string, extra: readonly string[] = []): readonly ModelFileBytes[] {
  const names = ["model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json", ...extra];
  return names.map((path) => ({ path, bytes: readFileSync(join(repository, folder, path)) }));
}

function tinyEmbed(): readonly ModelFileBytes[] {
  const folders = modelFolders();
  const { files } = folders.model({ network: tinyEncoder(), template: null });
  const out = (files?.files ?? []).map(({ path }) => ({
    path: path.replace("onnx/", ""),
    bytes: new Uint8Array(readFileSync(join(files?.directory ?? "", path))),
  }));
  folders.remove();
  return out;
}

/** A whole server that runs language models, with the operator's token. */
export type ChatHome = {
  readonly home: ServerHome;
  readonly url: string;
  readonly token: string;
};

/** Starts one with `demo/chat` and `demo/embed` released through the hub. */
export async function openChatHome(config: Partial<Parameters<typeof openHome>[0]> = {}): Promise<ChatHome> {
  const home = await openHome({ ...ortChild(), languageChild, ...config });
  await home.server.databaseReady;
  const { url } = home.server;
  const token = await mintToken(url, home.operator);
  for (const [name, files] of [
    ["demo/chat", modelFiles("models/chat", ["generation_config.json"])],
    ["demo/embed", existsSync(join(repository, "models/embed/model.onnx")) ? modelFiles("models/embed") : tinyEmbed()],
  ] as const) {
    const released = await release(url, token, name, files);
    if (released.status !== 200) throw new Error(`${name} was refused: ${JSON.stringify(released.body)}`);
  }
  return { home, url, token };
}

/** Stops the server, does what `between` does to its home, and starts another over the same home. */
export async function restart({ home }: ChatHome, between: () => void = () => undefined): Promise<ChatHome> {
  await home.server.close();
  between();
  const lines = [...home.lines];
  const server = await startServer({
    ...ortChild(),
    languageChild,
    host: "127.0.0.1",
    port: 0,
    seed: false,
    version: "0.0.0-test",
    logger: pino({ level: "debug", base: null }, { write: (line: string) => lines.push(line) }),
    home: home.directory,
  });
  await server.databaseReady;
  const close = async (): Promise<void> => {
    await server.close();
    rmSync(home.directory, { recursive: true, force: true });
  };
  return {
    home: { ...home, server, lines, close },
    url: server.url,
    token: await mintToken(server.url, home.operator),
  };
}

/** One request and everything that its caller was given. */
export type Exchanged = {
  readonly status: number;
  readonly headers: Headers;
  /** The answer; of a stream, its frames put together. */
  readonly body: Json;
  readonly frames: readonly { readonly data: string }[];
  readonly exchange: TextExchange;
};

/** Sends one request as it stands and reads its answer to the end. */
export async function exchange(
  url: string,
  dialect: TextDialect,
  request: Json,
  headers: Readonly<Record<string, string>> = {},
): Promise<Exchanged> {
  const sent = JSON.stringify(request);
  const response = await fetch(url + TEXT_PATHS[dialect], {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: sent,
  });
  const text = await response.text();
  const streamed = response.headers.get("content-type")?.startsWith("text/event-stream") ?? false;
  const frames = streamed
    ? text
        .split("\n")
        .filter((line) => line.startsWith("data: ") && line !== "data: [DONE]")
        .map((line) => ({ data: line.slice("data: ".length) }))
    : [];
  const digest = response.headers.get("assay-execution-digest");
  const body = streamed && response.ok ? (assemble(dialect, frames) as Json) : (JSON.parse(text) as Json);
  return {
    status: response.status,
    headers: response.headers,
    body,
    frames,
    exchange: {
      dialect,
      request: utf8ToBytes(sent),
      receiptId: response.headers.get("assay-receipt-id") ?? "",
      masterSalt: base64UrlToBytes(response.headers.get("assay-opening") ?? ""),
      grant: response.headers.get("assay-grant") ?? "",
      ...(digest === null ? {} : { executionDigest: digest }),
      answer: streamed
        ? { frames, complete: text.includes("data: [DONE]") || text.includes("event: response.completed") }
        : { body: utf8ToBytes(text) },
    },
  };
}

/** The bundle of an exchange, opened by what its caller knows. */
export async function receiptOf(
  url: string,
  { exchange: exchanged }: Pick<Exchanged, "exchange">,
): Promise<Uint8Array> {
  const { receiptId, grant } = exchanged;
  const response = await fetch(`${url}/v1/receipts/${receiptId}/bundle?waitMs=5000`, {
    headers: { "assay-grant": grant },
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (!response.ok) throw new Error(`No receipt: ${new TextDecoder().decode(bytes)}`);
  return openTextBundle(bytes, exchanged);
}

export function viewOf(bytes: Uint8Array): ReceiptView {
  const taken = viewReceipt(nodeSuite, bytes);
  if ("fault" in taken) throw new Error("The receipt cannot be read.");
  return taken.view;
}

function verdictOf({ home }: Pick<ChatHome, "home">, bytes: Uint8Array): Promise<Verdict> {
  return createVerifier({ trust: home.server.trust, suite: nodeSuite })(bytes, Date.now());
}

/** Checks answers again with one engine for many receipts. */
export type Rechecker = {
  /** Throws for a receipt that does not disclose what it takes. */
  readonly recheck: (view: ReceiptView) => Promise<TextCheck>;
  readonly engine: LocalEngine;
  readonly close: () => Promise<void>;
};

/** Over the files that the server's hub materialised for `name`. */
export async function openRechecker({ home }: Pick<ChatHome, "home">, name = "demo/chat"): Promise<Rechecker> {
  const { hub } = home.server;
  const files: LanguageModelFiles = (await hub.materialise(hub.catalogue.resolve(name))).all;
  const engine = createLocalEngine(languageChild);
  return {
    engine,
    async recheck(view) {
      const fields = (of: "request" | "response") =>
        (view.bundle.openings ?? []).flatMap(({ side, fields: list }) => (side === of ? list : []));
      const { claims } = view.execution;
      const { kind } = claims;
      if (kind !== "chat" && kind !== "completion") throw new Error(`${kind} is not checked token by token`);
      const found = await checkText(
        engine,
        nodeSuite,
        { kind, requestFields: fields("request"), responseFields: fields("response"), claims },
        () => Promise.resolve({ name, files }),
        new AbortController().signal,
      );
      if ("problem" in found) throw new Error(found.problem);
      return found;
    },
    close: () => engine.close(),
  };
}

/** One request with everything that has to hold of its receipt: verified by the gateway's trust. */
export async function receipted(
  chat: ChatHome,
  dialect: TextDialect,
  request: Json,
  headers: Readonly<Record<string, string>> = {},
): Promise<Exchanged & { readonly view: ReceiptView; readonly bytes: Uint8Array }> {
  const exchanged = await exchange(chat.url, dialect, request, headers);
  if (exchanged.status !== 200) throw new Error(JSON.stringify(exchanged.body));
  const bytes = await receiptOf(chat.url, exchanged);
  const verdict = await verdictOf(chat, bytes);
  if (verdict.status !== "verified") throw new Error(`${verdict.status}: ${JSON.stringify(verdict.checks)}`);
  return { ...exchanged, bytes, view: viewOf(bytes) };
}

/** What a signer may state otherwise than it happened: members of request and response, and claims. */
export type Lie = {
  readonly request?: (members: Json) => Json;
  readonly response?: (members: Json) => Json;
  readonly claims?: Readonly<Record<string, unknown>>;
};

/**
 * A receipt that is signed, logged and internally true, of an honest one with something told otherwise: what only a
 * check by the model can find. It verifies by the trust that comes with it, at `MOCK_TIME_MS`.
 */
export async function lieOf(
  honest: ReceiptView,
  lie: Lie,
): Promise<{ readonly view: ReceiptView; readonly trust: Trust; readonly bytes: Uint8Array }> {
  const masterSalt = fixedSeed("lying salt");
  const side = (of: "request" | "response", change: ((members: Json) => Json) | undefined) => {
    const fields = (honest.bundle.openings ?? []).flatMap((opening) => (opening.side === of ? opening.fields : []));
    const members = fields.map(({ name, value }) => `${JSON.stringify(name)}:${new TextDecoder().decode(value)}`);
    const text = `{${members.join(",")}}`;
    return jsonFields(change ? JSON.stringify(change(JSON.parse(text) as Json)) : text);
  };
  const known = { masterSalt, request: side("request", lie.request), response: side("response", lie.response) };
  const request = commitFields(nodeSuite, masterSalt, "request", known.request);
  const response = commitFields(nodeSuite, masterSalt, "response", known.response);
  const {
    kind,
    modelName,
    modelVersion,
    modelDigest,
    modelDigestScheme,
    modelDigestCheck,
    runtime,
    parameters,
    usage,
    finishReason,
  } = honest.execution.claims;
  const told = {
    kind,
    modelName,
    modelVersion,
    modelDigest,
    modelDigestScheme,
    modelDigestCheck,
    runtime,
    parameters,
    usage,
    finishReason,
    ...lie.claims,
  };
  const mock = await makeReceipt({
    open: false,
    execution: {
      ...(Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined)) as typeof told as object),
      requestRoot: request.root,
      requestFields: request.count,
      responseRoot: response.root,
      responseFields: response.count,
    },
  });
  const bytes = openBundle(mock.bytes, known);
  return { view: viewOf(bytes), trust: mock.trust, bytes };
}
