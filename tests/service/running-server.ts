import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { bytesToBase64, bytesToHex, utf8ToBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { buildManifest } from "@assay/onnx";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import type { RunningServer, ServerConfig } from "../../apps/assay/src/server/start-server.ts";

export type ModelFileBytes = { readonly path: string; readonly bytes: Uint8Array };
export type Json = { readonly [key: string]: unknown };

/** A whole server in this process over a home of its own, reached over loopback HTTP as any client reaches it. */
export type ServerHome = {
  readonly directory: string;
  readonly server: RunningServer;
  /** Every log line so far, as it was written. */
  readonly lines: readonly string[];
  /** The operator's own key, as the server keeps it. */
  readonly operator: Signer;
  readonly close: () => Promise<void>;
};

/** Starts a server over a fresh temporary home. */
export async function openHome(
  config: Pick<ServerConfig, "childEntry"> & Partial<Omit<ServerConfig, "home">>,
): Promise<ServerHome> {
  const directory = mkdtempSync(join(tmpdir(), "assay-home-"));
  const lines: string[] = [];
  const logger = pino({ level: "debug", base: null }, { write: (line: string) => lines.push(line) });
  try {
    const server = await startServer({
      host: "127.0.0.1",
      port: 0,
      seed: false,
      version: "0.0.0-test",
      logger,
      ...config,
      home: directory,
    });
    server.databaseReady.catch(() => undefined);
    return {
      directory,
      server,
      lines,
      operator: openKeystore(join(directory, "keys")).signer("owner", "ed25519"),
      async close() {
        await server.close();
        rmSync(directory, { recursive: true, force: true });
      },
    };
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

/** One JSON request; the body is parsed whatever the status. */
export async function ask(
  url: string,
  path: string,
  init: { readonly token?: string; readonly json?: unknown; readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<{ readonly status: number; readonly headers: Headers; readonly body: Json }> {
  const response = await fetch(url + path, {
    headers: {
      ...(init.json === undefined ? {} : { "content-type": "application/json" }),
      ...(init.token === undefined ? {} : { authorization: `Bearer ${init.token}` }),
      ...init.headers,
    },
    ...(init.json === undefined ? {} : { method: "POST", body: JSON.stringify(init.json) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text === "" ? {} : (JSON.parse(text) as Json),
  };
}

/** Mints a token for `signer` by signing a challenge. */
export async function mintToken(url: string, signer: Signer): Promise<string> {
  const publicKey = bytesToBase64(signer.publicKey);
  const given = await ask(url, "/v1/auth/challenge", { json: { publicKey } });
  const challenge = String(given.body["challenge"]);
  const signature = bytesToBase64(await signer.sign(utf8ToBytes(`assay/auth/1\n${challenge}`)));
  const granted = await ask(url, "/v1/auth/token", { json: { publicKey, challenge, signature } });
  if (granted.status !== 200) throw new Error(`No token was given: ${JSON.stringify(granted.body)}`);
  return String(granted.body["token"]);
}

/** The manifest of `files`; the entry is `model.onnx`. */
export function manifestOf(files: readonly ModelFileBytes[]): string {
  const listed = files.map(({ path, bytes }) => ({
    path,
    sizeBytes: bytes.length,
    sha256: bytesToHex(nodeSuite.sha256(bytes)),
  }));
  const preprocessing = listed.find(({ path }) => path === "preprocessing.json");
  const built = buildManifest(nodeSuite, {
    files: listed,
    entry: "model.onnx",
    ...(preprocessing ? { preprocessingSha256: preprocessing.sha256 } : {}),
  });
  return new TextDecoder().decode(built.bytes);
}

/** Uploads one file. */
export async function putBlob(url: string, token: string, bytes: Uint8Array): Promise<Json> {
  const response = await fetch(`${url}/v1/blobs`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/octet-stream" },
    body: Buffer.from(bytes),
  });
  const body = (await response.json()) as Json;
  if (!response.ok) throw new Error(`A blob was refused: ${JSON.stringify(body)}`);
  return body;
}

/** Uploads files and releases them as the next version of `name`. */
export async function release(
  url: string,
  token: string,
  name: string,
  files: readonly ModelFileBytes[],
  visibility?: "public" | "private",
): Promise<{ readonly status: number; readonly body: Json }> {
  for (const { bytes } of files) await putBlob(url, token, bytes);
  return ask(url, `/v1/models/${encodeURIComponent(name)}/releases`, {
    token,
    json: { manifest: manifestOf(files), ...(visibility === undefined ? {} : { visibility }) },
  });
}
