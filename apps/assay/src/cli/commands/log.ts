import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { bytesToHex, bytesToUtf8 } from "@assay/core";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { createMonitor, openWitness } from "@assay/driver-log";
import type { MonitorReport, Witness } from "@assay/driver-log";
import type { TrustedLog } from "@assay/receipts";
import { createClient, GatewayError } from "@assay/sdk";
import {
  checkpointSigner,
  formatVkey,
  MAX_ADD_CHECKPOINT_CHARS,
  openCheckpoint,
  parseCheckpoint,
  parseNote,
  parseVkey,
} from "@assay/tlog";
import type { CheckpointTrust } from "@assay/tlog";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { findReceipt, viewOf } from "../receipt-store.ts";
import { cliError } from "../render-error.ts";
import { facts, printable } from "../style.ts";
import { loadTrust } from "../trust-file.ts";
import { tlogProof } from "./receipt.ts";

/** Keys that a trusted log and its witnesses sign with, for the log of `origin` or of all trusted logs. */
async function logTrust(
  { world }: Cli,
  path?: string,
): Promise<{ logs: readonly TrustedLog[]; keys: CheckpointTrust }> {
  const { trust } = await loadTrust(world, path);
  const parse = (vkeys: readonly string[]) => vkeys.map((vkey) => parseVkey(vkey, nodeSuite));
  return {
    logs: trust.logs,
    keys: {
      logs: trust.logs.flatMap(({ keys }) => parse(keys)),
      witnesses: trust.logs.flatMap(({ witnesses }) => parse(witnesses)),
    },
  };
}

export type CheckpointFlags = GatewayFlags & { readonly trust?: string };

/** `assay log checkpoint`: the log's latest signed state, checked with the trusted keys. */
export async function checkpoint(cli: Cli, flags: CheckpointFlags): Promise<number> {
  const { output, world } = cli;
  const note = bytesToUtf8(
    await withGateway(cli, flags, ({ client }) => client.log("checkpoint", { signal: world.interrupt })),
  );
  const { keys } = await logTrust(cli, flags.trust);
  const { origin, size, root } = parseCheckpoint(parseNote(note).text);
  const known = keys.logs.some(({ name }) => name === origin);
  const opened = await openCheckpoint(note, keys, nodeSuite);
  const status = !known ? "inconclusive" : opened.ok ? "pass" : "fail";
  const words = !known
    ? `You trust no key of the log ${printable(origin)}.`
    : opened.ok
      ? `Signed by the log ${printable(origin)} over ${size} entries.`
      : `This checkpoint does not hold: ${opened.reason}`;
  output.note(`${output.noteStyle.mark("other", status)} ${words}`);
  output.answer(
    () => note.trimEnd(),
    () => ({ origin, size, root: bytesToHex(root), status: STATUS_WORD[status], note }),
  );
  return { pass: EXIT.done, fail: EXIT.evidenceFailed, inconclusive: EXIT.inconclusive }[status];
}

const STATUS_WORD = { pass: "verified", fail: "failed", inconclusive: "inconclusive" } as const;

/** `assay log prove`: that a receipt is in the log, as a C2SP `.tlog-proof`. */
export async function prove(cli: Cli, flags: GatewayFlags, given: string): Promise<number> {
  const { output, world } = cli;
  const stored = await findReceipt(world, given);
  const text = stored
    ? tlogProof(viewOf(stored.bytes, stored.path))
    : bytesToUtf8(
        await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
          client.proof(given, "tlog-proof", { signal: world.interrupt }),
        ),
      );
  output.answer(
    () => text.trimEnd(),
    () => ({ receipt: stored?.id ?? given, proof: text }),
  );
  return EXIT.done;
}

export type MonitorFlags = {
  readonly once: boolean;
  readonly trust?: string;
  readonly intervalMs: number;
};

const SOUND: ReadonlySet<MonitorReport["verdict"]> = new Set(["consistent", "unchanged"]);

/** `assay log monitor`: follows a log and proves to itself, from every entry, that history only grew. */
export async function monitor(cli: Cli, flags: MonitorFlags, url: string): Promise<number> {
  const { output, world } = cli;
  const { keys } = await logTrust(cli, flags.trust);
  if (keys.logs.length === 0) {
    throw cliError("usage_invalid", "A log is followed by its keys, and the trust file names none.", {
      hints: ["Write one with `assay trust export > trust.json` and check its keys."],
    });
  }
  const client = createClient({ url, fetch: world.fetch, sleep: world.sleep, suite: nodeSuite });
  const directory = join(world.home, "monitor");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const watch = createMonitor({
    get: async (path) => {
      try {
        return await client.log(path, { signal: world.interrupt });
      } catch (error) {
        if (error instanceof GatewayError && error.status === 404) return undefined;
        throw error;
      }
    },
    trust: keys,
    directory,
    stateFile: `${bytesToHex(nodeSuite.sha256(new TextEncoder().encode(url))).slice(0, 32)}.json`,
    suite: nodeSuite,
  });
  for (;;) {
    const report = await watch.poll();
    const sound = SOUND.has(report.verdict);
    const status = sound ? "pass" : report.verdict === "unreachable" ? "inconclusive" : "fail";
    const size = report.checkpoint?.size ?? report.previousSize;
    output.answer(
      () =>
        `${output.style.mark("other", status)} ${report.verdict}  ${size} entries, ${report.entriesChecked} read now. ${printable(report.reason)}`,
      () => ({
        verdict: report.verdict,
        reason: report.reason,
        previousSize: report.previousSize,
        size,
        entriesChecked: report.entriesChecked,
        note: report.note ?? null,
        path: report.path ?? null,
        index: report.index ?? null,
      }),
    );
    if (status === "fail") return EXIT.evidenceFailed;
    if (flags.once) return status === "pass" ? EXIT.done : EXIT.nodeUnavailable;
    try {
      await world.sleep(flags.intervalMs, world.interrupt);
    } catch {
      return EXIT.interrupted;
    }
  }
}

export type WitnessFlags = { readonly listen: number; readonly name: string; readonly trust?: string };

/** `assay log witness`: cosigns checkpoints of the trusted logs, each only if it extends the one cosigned before. */
export async function witness(cli: Cli, flags: WitnessFlags): Promise<number> {
  const { output, world } = cli;
  const { keys } = await logTrust(cli, flags.trust);
  if (keys.logs.length === 0) {
    throw cliError("usage_invalid", "A witness cosigns logs whose keys it knows, and the trust file names none.", {
      hints: ["Write one with `assay trust export > trust.json` and check its keys."],
    });
  }
  const directory = join(world.home, "witness");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const signer = openKeystore(join(world.home, "keys")).signer("witness", "ed25519");
  const own = checkpointSigner(flags.name, "cosignature-ed25519", signer, nodeSuite);
  const service = await openWitness({ directory, signers: [own], logs: keys.logs, suite: nodeSuite, now: world.now });
  const server = createServer((request, response) => {
    void answerHttp(service, request, response);
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(flags.listen, "127.0.0.1", resolve);
    });
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : flags.listen;
    const vkey = formatVkey(own.key);
    output.answer(
      () =>
        facts(
          [
            ["Witness at", `http://127.0.0.1:${port}`],
            ["Key", vkey],
            ["Cosigns", [...new Set(keys.logs.map(({ name }) => printable(name)))].join(", ")],
          ],
          output.style,
          0,
        ),
      () => ({ url: `http://127.0.0.1:${port}`, vkey, logs: [...new Set(keys.logs.map(({ name }) => name))] }),
    );
    await interrupted(world.interrupt);
    return EXIT.done;
  } finally {
    server.closeAllConnections();
    server.close();
    await service.close();
  }
}

async function answerHttp(service: Witness, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request) {
      const part = chunk as Uint8Array;
      length += part.length;
      // One byte past the limit is enough for the witness to refuse it by its own words.
      if (length > MAX_ADD_CHECKPOINT_CHARS + 1) break;
      chunks.push(part);
    }
    const path = (request.url ?? "/").replace(/\?.*$/, "");
    const { status, headers, body } = await service.handle(request.method ?? "GET", path, Buffer.concat(chunks));
    response.writeHead(status, headers).end(body);
  } catch {
    // The asker went away in the middle; there is nobody to answer.
    response.destroy();
  }
}

function interrupted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
