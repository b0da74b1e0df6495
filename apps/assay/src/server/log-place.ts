import { randomBytes } from "node:crypto";
import { AssayError, bytesToHex, parseJson } from "@assay/core";
import type { Signer } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import type { FileKeystore } from "@assay/driver-crypto";
import { connectLog, openLog } from "@assay/driver-log";
import type { FileLog } from "@assay/driver-log";
import type { CheckpointNote, LogSink } from "@assay/protocol";
import { createIssuer, keyId, parseTrust } from "@assay/receipts";
import type { Trust, TrustedIdentity } from "@assay/receipts";
import { createNodeLink } from "@assay/service-node";
import { formatVkey, parseVkey } from "@assay/tlog";
import { readBounded } from "./files.ts";
import { ownerAsked } from "./money/peer.ts";
import type { AskOwner } from "./money/peer.ts";
import { witnessKeys } from "./witnessing.ts";
import type { ConfiguredWitness } from "./witnessing.ts";

/** Where this gateway's statements go: files of its own, or those of the gateway that it joined. */
export type LogPlace = {
  readonly log: LogSink & Pick<FileLog, "keys">;
  /** The log as a trust file names it. */
  readonly trusted: Trust["logs"][number];
  /** Identities besides this gateway's own that its trust file names. */
  readonly identities: readonly TrustedIdentity[];
  /** The log's key, for proofs that it signs itself; only who owns the files has it. */
  readonly signer: Signer;
  readonly cosigned?: () => CheckpointNote | undefined;
  /** What keeps it from taking records, in one sentence. */
  readonly problem: () => string | undefined;
  /** The files, when they are this process's own. */
  readonly own: FileLog | undefined;
  /** Asks the gateway with the files, when that is another one, as one that it let in. */
  readonly askOwner?: AskOwner;
  /** Content that the gateway with the files has. */
  readonly fetchBlob?: (sha256: string) => Promise<AsyncIterable<Uint8Array> | undefined>;
  readonly close: () => Promise<void>;
};

/** Checkpoints at most this often when nobody waits for one: the post-quantum signature takes 5 ms of this thread. */
const CHECKPOINT_INTERVAL_MS = 2000;
/** A trust file lists keys; ten thousand of each kind fit. */
const MAX_TRUST_BYTES = 4 * 1024 * 1024;
/** Prices of a gateway: four thousand listings fit. */
const MAX_OWNER_BYTES = 8 * 1024 * 1024;
const KEYSET_MS = 24 * 60 * 60 * 1000;
const EARLY_MS = 5 * 60 * 1000;

/** Opens the log's files under `directory`: this process is the sequencer. */
export async function openOwnLog(
  keystore: FileKeystore,
  options: {
    readonly directory: string;
    readonly now: () => number;
    readonly witnesses: readonly ConfiguredWitness[];
    readonly log?: Partial<Parameters<typeof openLog>[0]> | undefined;
  },
): Promise<LogPlace> {
  const { witnesses } = options;
  const signer = keystore.signer("log", "ed25519");
  const log = await openLog({
    directory: options.directory,
    origin: `assay.local/${bytesToHex(keyId(nodeSuite, signer.publicKey))}`,
    signers: { ed25519: signer, mlDsa44: keystore.signer("log-pq", "ml-dsa-44") },
    suite: nodeSuite,
    now: options.now,
    checkpointIntervalMs: CHECKPOINT_INTERVAL_MS,
    witnesses: witnessKeys(witnesses),
    ...options.log,
  });
  return {
    log,
    trusted: {
      origin: log.origin,
      keys: log.keys.map(formatVkey),
      witnesses: witnesses.map(({ vkey }) => vkey),
      quorum: witnesses.length,
    },
    identities: [],
    signer,
    ...(witnesses.length === 0 ? {} : { cosigned: () => log.cosigned() }),
    problem: () => log.status().error?.message,
    own: log,
    close: () => log.close(),
  };
}

export type PeerConfig = {
  /** The gateway that owns the log's files. */
  readonly url: string;
  /** What lets this gateway in, from the other's operator. */
  readonly invite?: string;
  readonly allowPlainHttp?: boolean;
};

/**
 * Joins the gateway at `peer.url` as a second one and writes to its log. Throws `node_pending` when its operator has
 * not let this one in, `log_unreachable`, and what joining throws.
 */
export async function joinLog(keystore: FileKeystore, peer: PeerConfig, now: () => number): Promise<LogPlace> {
  const base = peer.url.replace(/\/+$/, "");
  const identity = keystore.signer("gateway-identity", "ed25519");
  const subject = `urn:assay:gateway:${bytesToHex(keyId(nodeSuite, identity.publicKey))}`;
  const link = createNodeLink(
    {
      gatewayUrl: base,
      role: "gateway",
      ...(peer.invite === undefined ? {} : { invite: peer.invite }),
      ...(peer.allowPlainHttp === undefined ? {} : { allowPlainHttp: peer.allowPlainHttp }),
    },
    {
      identity,
      suite: nodeSuite,
      fetch: (url, init) => fetch(url, init),
      now,
      advertisement: () => ({ offers: [], securityModes: ["vanilla"] }),
      load: () => ({ running: 0, queued: 0, healthy: true }),
    },
  );
  try {
    const known = await link.known();
    const madeMs = now();
    // A keyset only to be let in with: the recorder makes the one that statements are signed under, and it follows.
    const issuer = await createIssuer({
      suite: nodeSuite,
      subject,
      role: "gateway",
      identity,
      keys: { service: ed25519Signer(randomSeed()) },
      instanceId: new Uint8Array(randomBytes(16)),
      bootSeq: known.keyset ? known.keyset.bootSeq + 1 : 0,
      ...(known.keyset ? { previous: { keyset: known.keyset.keyset, statement: known.keyset.statement } } : {}),
      notBeforeMs: madeMs - EARLY_MS,
      notAfterMs: madeMs + KEYSET_MS,
      ...(known.head ? { head: known.head } : {}),
    });
    const joined = await link.start(issuer);
    if (joined.state !== "active") {
      const key = bytesToHex(identity.publicKey);
      throw new AssayError("node_pending", `The gateway at ${base} has not let this one in.`, {
        hints: ["Start it with an invite, or let its operator say", `\`assay node admit ${key}\``],
      });
    }
    const log = await connectLog({
      url: base,
      token: () => link.session(),
      fetch: (url, init) => fetch(url, init),
      ...(peer.allowPlainHttp === undefined ? {} : { allowPlainHttp: peer.allowPlainHttp }),
    });
    const trust = parseTrust(await readBounded(await fetch(`${base}/v1/trust`), MAX_TRUST_BYTES));
    const trusted = trust.logs.find(({ origin }) => origin === log.origin);
    if (!trusted) {
      await log.close();
      throw new AssayError("log_unreachable", `The gateway at ${base} names no keys of its log ${log.origin}.`);
    }
    return {
      log: Object.assign(log, { keys: trusted.keys.map((vkey) => parseVkey(vkey, nodeSuite)) }),
      trusted,
      identities: trust.identities,
      signer: {
        ...identity,
        sign: () =>
          Promise.reject(
            new AssayError("proof_elsewhere", "Proofs that the log signs itself come from the gateway that owns it.", {
              hints: [`Ask ${base} for this one.`],
            }),
          ),
      },
      problem: () => (log.reachable() ? undefined : `The log at ${base} does not answer.`),
      own: undefined,
      askOwner: ownerAsked(
        base,
        (url) => fetch(url, { headers: { authorization: `Bearer ${link.session()}` }, redirect: "error" }),
        async (response) =>
          parseJson(await readBounded(response, MAX_OWNER_BYTES), { maxBytes: MAX_OWNER_BYTES, maxDepth: 8 }),
      ),
      async fetchBlob(sha256) {
        const response = await fetch(`${base}/internal/blobs/${sha256}`, {
          headers: { authorization: `Bearer ${link.session()}` },
          redirect: "error",
        });
        if (response.ok && response.body) return response.body;
        await response.body?.cancel();
        if (response.status === 404) return undefined;
        throw new AssayError("gateway_unreachable", `The gateway at ${base} answered ${response.status} for content.`);
      },
      async close() {
        await log.close();
        await link.close();
      },
    };
  } catch (error) {
    await link.close();
    throw error;
  }
}
