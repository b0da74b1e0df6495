import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createModelPuller } from "./puller.ts";
import type { ModelPuller, ReadManifest } from "./puller.ts";

const sha = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const weights = new Uint8Array(randomBytes(300_000));
const card = Buffer.from("a card");
const files = [
  { path: "onnx/model.onnx", sha256: sha(weights), sizeBytes: weights.length },
  { path: "copy/model.onnx", sha256: sha(weights), sizeBytes: weights.length },
  { path: "README.md", sha256: sha(card), sizeBytes: card.length },
];
const manifest = Buffer.from(JSON.stringify({ entry: "onnx/model.onnx", files }));
const content = new Map<string, Uint8Array>([
  [sha(weights), weights],
  [sha(card), card],
  [sha(manifest), manifest],
]);

let directory = "";
let url = "";
let served: string[] = [];
let answer: (request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, from: number) => void;
const pullers: ModelPuller[] = [];
const server = createServer((request, response) => {
  const id = /^\/internal\/blobs\/([0-9a-f]{64})$/.exec(request.url ?? "")?.[1] ?? "";
  const bytes = content.get(id);
  const from = Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  served.push(`${id.slice(0, 4)}+${from}`);
  if (request.headers.authorization !== "Bearer session") response.writeHead(401).end();
  else if (!bytes) response.writeHead(404).end();
  else answer(request, response, bytes, from);
});
const whole: typeof answer = (_request, response, bytes, from) => {
  if (from >= bytes.length && from > 0) response.writeHead(416).end();
  else response.writeHead(from > 0 ? 206 : 200).end(bytes.subarray(from));
};

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-puller-"));
  served = [];
  answer = whole;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  for (const one of pullers.splice(0)) await one.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true, force: true });
});

function puller(options: Partial<Parameters<typeof createModelPuller>[0]> = {}, session = "session"): ModelPuller {
  const made = createModelPuller(
    { gatewayUrl: url, directory, retryMs: 1, ...options },
    {
      fetch: fetch as never,
      parseManifest: (bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as ReadManifest,
      session: () => session,
    },
  );
  pullers.push(made);
  return made;
}

describe("pulling a model", () => {
  test("brings each content once, whoever asks, and knows it at the next start", async () => {
    const one = puller();
    const [a, b] = await Promise.all([one.pull(sha(manifest)), one.pull(sha(manifest))]);
    expect(a).toEqual(b);
    expect(a).toMatchObject({ manifestDigest: sha(manifest), entry: "onnx/model.onnx" });
    for (const { path, sha256 } of files) expect(sha(readFileSync(join(a.directory, path)))).toBe(sha256);
    expect(served).toHaveLength(3);
    expect(await puller().pull(sha(manifest))).toEqual(a);
    expect(served).toHaveLength(3);
  });

  test("goes on where a broken transfer stopped, also over a start", async () => {
    let cuts = 2;
    answer = (request, response, bytes, from) => {
      if (bytes !== weights || cuts === 0) return whole(request, response, bytes, from);
      cuts--;
      response.writeHead(from > 0 ? 206 : 200, { "content-length": bytes.length - from });
      response.write(bytes.subarray(from, from + 100_000), () => request.socket.destroy());
    };
    await puller().pull(sha(manifest));
    const ranges = served.filter((one) => one.startsWith(sha(weights).slice(0, 4))).map((one) => Number(one.slice(5)));
    expect(ranges[0]).toBe(0);
    expect(ranges.length).toBe(3);
    expect(ranges[1]).toBeGreaterThan(0);
    rmSync(join(directory, sha(manifest)), { recursive: true });
    mkdirSync(join(directory, ".parts"), { recursive: true });
    writeFileSync(join(directory, ".parts", `${sha(weights)}.part`), weights.subarray(0, 1234));
    served = [];
    await puller().pull(sha(manifest));
    expect(served).toContain(`${sha(weights).slice(0, 4)}+1234`);
  });

  test("other bytes than were named are refused and not kept", async () => {
    answer = (request, response, bytes, from) =>
      whole(request, response, bytes === weights ? weights.map((b) => b ^ 1) : bytes, from);
    await expect(puller().pull(sha(manifest))).rejects.toMatchObject({ code: "blob_digest_mismatch" });
    expect(existsSync(join(directory, sha(manifest)))).toBe(false);
    answer = whole;
    await puller().pull(sha(manifest));
  });

  test("more bytes than the manifest lists are refused while they come", async () => {
    answer = (request, response, bytes, from) =>
      whole(request, response, bytes === weights ? Buffer.concat([weights, weights]) : bytes, from);
    await expect(puller().pull(sha(manifest))).rejects.toMatchObject({ code: "blob_digest_mismatch" });
  });

  test("what is not there, is no digest, or is not for us", async () => {
    await expect(puller().pull("00".repeat(32))).rejects.toMatchObject({ code: "model_not_found" });
    await expect(puller().pull("../../etc/passwd")).rejects.toMatchObject({ code: "model_not_found" });
    await expect(puller({}, "wrong").pull(sha(manifest))).rejects.toMatchObject({ code: "node_not_joined" });
    expect(() => puller({ gatewayUrl: "http://models.example" })).toThrow(
      expect.objectContaining({ code: "gateway_url_invalid" }),
    );
  });

  test("no more is brought than may lie there", async () => {
    await expect(puller({ maxBytes: weights.length }).pull(sha(manifest))).rejects.toMatchObject({
      code: "storage_full",
    });
    expect(readdirSync(directory)).toEqual([".parts"]);
  });

  test("a gateway that stays away is given up, and whoever waits may stop waiting", async () => {
    answer = (request) => request.socket.destroy();
    await expect(puller({ retries: 2 }).pull(sha(manifest))).rejects.toMatchObject({ code: "gateway_unreachable" });
    expect(served).toHaveLength(3);
    answer = () => undefined;
    const stopping = new AbortController();
    const waiting = puller().pull(sha(manifest), stopping.signal);
    stopping.abort();
    await expect(waiting).rejects.toMatchObject({ code: "request_cancelled" });
  });
});
