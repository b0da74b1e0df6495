import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bytesToHex } from "@assay/core";
import { ed25519Signer } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import { decodeClaims, decodeEntry, findContradictions, parseStatement } from "@assay/receipts";
import type { Statement } from "@assay/receipts";
import { decodeSidecar } from "@assay/service-gateway";
import { afterEach, expect, test } from "vitest";
import { suite } from "./world.ts";

// kill -9 of node, gateway and both while answers are under way: what a client was told is in the log exactly once, and
// in the end nothing that the node signed is missing.

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const children = new Set<ChildProcess>();
const folders: string[] = [];
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
});

type Running = { readonly child: ChildProcess; readonly ready: Promise<string>; readonly last: () => string };

function start(script: string, ...args: readonly string[]): Running {
  const child = spawn(
    process.execPath,
    ["--conditions=assay-source", "--import", import.meta.resolve("tsx"), here(script), ...args],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  children.add(child);
  let output = "";
  let last = "";
  const ready = new Promise<string>((resolve, reject) => {
    child.stdout?.on("data", (data: Buffer) => {
      output += data.toString();
      const lines = output.split("\n");
      output = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("ready ")) resolve(line.slice(6));
        else last = line;
      }
    });
    child.once("exit", () => {
      children.delete(child);
      reject(new Error(`${script} ended.`));
    });
  });
  ready.catch(() => undefined);
  return { child, ready, last: () => last };
}

async function kill({ child }: Running): Promise<void> {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

test("killed at any point, nothing that was answered is lost, and nothing is there twice", async () => {
  const root = mkdtempSync(join(tmpdir(), "assay-killed-"));
  folders.push(root);
  const gatewayDirectory = mkdtempSync(join(root, "gateway-"));
  const nodeDirectory = mkdtempSync(join(root, "node-"));
  let gateway = start("./gateway-process.ts", gatewayDirectory, "0");
  const port = await gateway.ready;
  const url = `http://127.0.0.1:${port}`;
  let node = start("./node-process.ts", nodeDirectory, url);
  const subject = await node.ready;

  const answered: { readonly digest: string; readonly index: number }[] = [];
  const stopping = new AbortController();
  const client = async (name: number): Promise<void> => {
    for (let i = 0; !stopping.signal.aborted; i++) {
      try {
        const response = await fetch(`${url}/test/chat`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ node: subject, text: `client ${name} request ${i} of many` }),
          signal: AbortSignal.timeout(10_000),
        });
        if (response.ok) answered.push((await response.json()) as (typeof answered)[number]);
        else {
          await response.body?.cancel();
          await pause(20);
        }
      } catch {
        await pause(20);
      }
    }
  };
  const clients = Promise.all([0, 1, 2, 3].map(client));
  const more = async (count: number): Promise<void> => {
    const wanted = answered.length + count;
    const end = Date.now() + 60_000;
    while (answered.length < wanted) {
      if (Date.now() > end) throw new Error(`Only ${answered.length} answers came: ${node.last()}`);
      await pause(3);
    }
  };

  for (const victim of ["node", "gateway", "both", "node", "gateway"] as const) {
    await more(15 + (answered.length % 7));
    if (victim !== "gateway") await kill(node);
    if (victim !== "node") await kill(gateway);
    if (victim !== "node") {
      gateway = start("./gateway-process.ts", gatewayDirectory, port);
      await gateway.ready;
    }
    if (victim !== "gateway") {
      node = start("./node-process.ts", nodeDirectory, url);
      await node.ready;
    }
  }
  await more(10);
  stopping.abort();
  await clients;
  const end = Date.now() + 30_000;
  while (node.last() !== "owed 0 active") {
    if (Date.now() > end) throw new Error(`The node still owes: ${node.last()}`);
    await pause(20);
  }
  await kill(node);
  await kill(gateway);

  const log = await openLog({
    directory: gatewayDirectory,
    origin: "log.test/remote",
    signers: { ed25519: ed25519Signer(new Uint8Array(32).fill(3)) },
    suite,
  });
  const statements: Statement[] = [];
  const byDigest = new Map<string, number[]>();
  for (const record of await log.readRange(0, 100_000)) {
    const [envelope] = decodeEntry(record.entry);
    if (!envelope) continue;
    const statement = parseStatement(suite, envelope);
    if (statement.header.kind !== "execution") continue;
    const digest = bytesToHex(statement.digest);
    byDigest.set(digest, [...(byDigest.get(digest) ?? []), record.index]);
    if (statement.header.issuer !== subject) continue;
    statements.push(statement);
    const [claims] = decodeSidecar(record.claims).claims;
    expect(decodeClaims("execution", claims ?? new Uint8Array()).modelName).toBe("echo");
  }
  await log.close();
  expect(answered.length).toBeGreaterThan(80);
  for (const { digest, index } of answered) expect(byDigest.get(digest)).toEqual([index]);
  const seqs = statements.map(({ header }) => header.seq).toSorted((a, b) => a - b);
  expect(seqs).toEqual(seqs.map((_, i) => i));
  expect(findContradictions(statements)).toEqual([]);
});
