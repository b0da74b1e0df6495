import { AssayError, bytesToBase64, bytesToHex, hexToBytes, isAssayError } from "@assay/core";
import type { CryptoSuite, Signer } from "@assay/core";
import {
  beatenSchema,
  challengeSchema,
  joinedSchema,
  joinMessage,
  NODE_LIMITS,
  offeredSchema,
  parseValue,
  acceptedSchema,
  advertisementSchema,
} from "@assay/protocol";
import type { Advertisement, Heartbeat, Joined, JoinWire, PartyRole, PartyState } from "@assay/protocol";
import type { ChainHead, Issuer } from "@assay/receipts";
import { createGatewayClient } from "./gateway-client.ts";
import type { Fetch } from "./gateway-client.ts";
import type { KeysetPlace } from "./outbox-file.ts";
import type { Outbox } from "./outbox.ts";

/** Where this party's chain and keysets stand by the gateway's log. */
export type Known = { readonly head?: ChainHead; readonly keyset?: KeysetPlace };

export type LinkOptions = {
  readonly gatewayUrl: string;
  readonly role: PartyRole;
  /** Where the gateway reaches this node, and the secret to show there. */
  readonly url?: string;
  readonly secret?: Uint8Array;
  readonly invite?: string;
  readonly allowPlainHttp?: boolean;
  /** Pause after a failed call, growing up to the second figure, milliseconds. */
  readonly retryMs?: readonly [number, number];
  /** How old a statement must be before it is offered: its own answer carries it to the gateway first. */
  readonly offerAfterMs?: number;
};

export type LinkModules = {
  readonly identity: Signer;
  /** The operator's key, on the operator's own machine: its countersignature admits at once. */
  readonly operator?: Signer;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly fetch: Fetch;
  readonly now: () => number;
  readonly advertisement: () => Advertisement;
  readonly load: () => Omit<Heartbeat, "unacknowledged">;
  /** Statements that wait; absent for a gateway, which writes to the log itself. */
  readonly outbox?: Outbox;
  /** Told of every change of what the gateway thinks of this node, and of failures. */
  readonly onState?: (state: PartyState | "unreachable") => void;
  readonly onError?: (error: unknown) => void;
};

/** The standing connection of a node, or of a second gateway, to the gateway it joined. */
export type NodeLink = {
  /** Asks where the log has this identity's chain: to be asked before an issuer is made. Needs no admission. */
  readonly known: () => Promise<Known>;
  /** Joins under `issuer`'s keyset, and stays joined until `close`: heartbeats, offers of what waits, joins again. */
  readonly start: (issuer: Issuer) => Promise<Joined>;
  /** Has a new keyset logged. */
  readonly announce: (issuer: Issuer) => Promise<void>;
  readonly state: () => PartyState | "unreachable";
  /** Bearer of this session, for the log's interface. Throws `node_not_joined` before the join. */
  readonly session: () => string;
  /** Beats at once, and offers what waits: resolves when the gateway has answered. */
  readonly beat: () => Promise<void>;
  /** No new work from the gateway; what runs is finished. */
  readonly drain: () => Promise<void>;
  /** Leaves: the gateway routes nothing here and forgets the secret. */
  readonly leave: () => Promise<void>;
  readonly close: () => Promise<void>;
};

const RETRY_MS = [500, 10_000] as const;
const OFFER_AFTER_MS = 5000;
/** Bytes of one offer in base64, below the gateway's limit for such a body. */
const MAX_OFFER_BYTES = 16 * 1024 * 1024;

/** Makes a link; nothing is sent before it is asked. */
export function createNodeLink(options: LinkOptions, modules: LinkModules): NodeLink {
  const { identity, suite, outbox } = modules;
  const client = createGatewayClient(options.gatewayUrl, modules.fetch, options.allowPlainHttp);
  const publicKey = bytesToBase64(identity.publicKey);
  const key = bytesToHex(identity.publicKey);
  const [retryFirstMs, retryLastMs] = options.retryMs ?? RETRY_MS;
  const offerAfterMs = options.offerAfterMs ?? OFFER_AFTER_MS;
  let issuer: Issuer | undefined;
  let joined: Joined | undefined;
  let state: PartyState | "unreachable" = "unreachable";
  const stopping = new AbortController();
  let wake: (() => void) | undefined;
  let running: Promise<void> | undefined;
  /** When each waiting statement was first seen waiting: a set that only holds what waits. */
  let seenAtMs = new Map<number, number>();
  /** Statements that the gateway refused: offered again only by the next start, because nothing about them changes. */
  const refused = new Set<number>();

  const tell = (next: PartyState | "unreachable"): void => {
    if (next === state) return;
    state = next;
    modules.onState?.(next);
  };

  const challenge = () => client.post("/v1/nodes/challenge", { publicKey }, challengeSchema);

  const join = async (): Promise<Joined> => {
    if (!issuer) throw new TypeError("A link joined without an issuer.");
    const { challenge: given } = await challenge();
    const wire: Omit<JoinWire, "signature"> = {
      publicKey,
      role: options.role,
      challenge: given,
      keyset: {
        envelope: bytesToBase64(issuer.keysetStatement.envelope),
        document: bytesToBase64(issuer.keysetBytes),
      },
      ...(options.url === undefined ? {} : { url: options.url }),
      ...(options.secret ? { secret: bytesToBase64(options.secret) } : {}),
      advertisement: parseValue(advertisementSchema, modules.advertisement()),
    };
    const signature = await identity.sign(joinMessage(suite, "node", wire));
    const countersignature = await modules.operator?.sign(joinMessage(suite, "operator", wire));
    joined = await client.post(
      "/v1/nodes/join",
      {
        ...wire,
        signature: bytesToBase64(signature),
        ...(countersignature ? { countersignature: bytesToBase64(countersignature) } : {}),
        ...(options.invite === undefined ? {} : { invite: options.invite }),
      },
      joinedSchema,
    );
    tell(joined.state);
    return joined;
  };

  const session = (): Joined => {
    if (!joined) throw new AssayError("node_not_joined", "This node has not joined its gateway yet.");
    return joined;
  };
  const call = async (path: string, body: unknown): Promise<void> => {
    await client.post(`/v1/nodes/${key}/${path}`, body, acceptedSchema, { bearer: session().session });
  };

  const beat = async (): Promise<void> => {
    const bearer = session().session;
    const waiting = outbox?.waiting();
    const {
      state: next,
      missing,
      upTo,
    } = await client.post(
      `/v1/nodes/${key}/heartbeat`,
      { ...modules.load(), ...(waiting ? { unacknowledged: [waiting.from, waiting.to] } : {}) },
      beatenSchema,
      { bearer },
    );
    tell(next);
    if (!outbox || !waiting) return;
    let at = waiting.from;
    for (const [from, to] of missing) {
      outbox.acknowledge(at, from);
      at = to;
    }
    outbox.acknowledge(at, upTo);
    if (next === "active" || next === "draining") await offer(missing);
  };

  const offer = async (missing: readonly (readonly [number, number])[]): Promise<void> => {
    if (!outbox) return;
    const nowMs = modules.now();
    const still = new Map<number, number>();
    let due: number[] = [];
    for (const [from, to] of missing) {
      for (let seq = from; seq < to; seq++) {
        if (!outbox.entry(seq)) continue;
        const since = seenAtMs.get(seq) ?? nowMs;
        still.set(seq, since);
        if (nowMs - since >= offerAfterMs && !refused.has(seq)) due.push(seq);
      }
    }
    seenAtMs = still;
    // What was acknowledged while an offer was under way is not there any more.
    while (!stopping.signal.aborted) {
      const part = partOf(due);
      const last = part.at(-1)?.seq;
      if (last === undefined) return;
      due = due.filter((seq) => seq > last);
      const { outcomes } = await client.post(
        `/v1/nodes/${key}/statements`,
        {
          statements: part.map(({ envelope, claims }) => ({
            envelope: bytesToBase64(envelope),
            claims: bytesToBase64(claims),
          })),
        },
        offeredSchema,
        { bearer: session().session, timeoutMs: 60_000 },
      );
      for (const [i, { outcome, code }] of outcomes.entries()) {
        const entry = part[i];
        if (!entry) continue;
        if (outcome === "logged") outbox.acknowledge(entry.seq, entry.seq + 1);
        if (outcome === "refused") {
          refused.add(entry.seq);
          modules.onError?.(
            new AssayError("node_statement_refused", `The gateway refused statement ${entry.seq} (${code ?? "?"}).`),
          );
        }
      }
    }
  };

  const partOf = (due: readonly number[]): { seq: number; envelope: Uint8Array; claims: Uint8Array }[] => {
    const part = [];
    let bytes = 0;
    for (const seq of due.filter((one) => outbox?.entry(one)).slice(0, NODE_LIMITS.maxStatements)) {
      const entry = outbox?.entry(seq);
      const size = entry ? ((entry.envelope.length + entry.claims.length) * 4) / 3 : 0;
      if (part.length > 0 && bytes + size > MAX_OFFER_BYTES) break;
      bytes += size;
      if (entry) part.push(entry);
    }
    return part;
  };

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const stay = async (): Promise<void> => {
    let backoff: number = retryFirstMs;
    while (!stopping.signal.aborted) {
      await pause(state === "unreachable" ? backoff : (joined?.heartbeatMs ?? backoff));
      if (stopping.signal.aborted) return;
      try {
        if (!joined) await join();
        await beat();
        backoff = retryFirstMs;
      } catch (error) {
        if (stopping.signal.aborted) return;
        // The gateway does not know this session: it was restored from a copy, or the node was removed.
        if (isAssayError(error) && error.code === "node_session_unknown") joined = undefined;
        if (state !== "unreachable") modules.onError?.(error);
        tell("unreachable");
        backoff = Math.min(backoff * 2, retryLastMs);
      }
    }
  };

  return {
    async known() {
      const { known } = await challenge();
      return {
        ...(known.head
          ? {
              head: {
                seq: known.head.seq,
                ...(known.head.prev === undefined ? {} : { prev: hexToBytes(known.head.prev) }),
              },
            }
          : {}),
        ...(known.keyset
          ? {
              keyset: {
                bootSeq: known.keyset.bootSeq,
                keyset: hexToBytes(known.keyset.keyset),
                statement: hexToBytes(known.keyset.statement),
              },
            }
          : {}),
      };
    },
    async start(of) {
      issuer = of;
      const answer = await join();
      running ??= stay();
      return answer;
    },
    async announce(next) {
      await call("keyset", {
        envelope: bytesToBase64(next.keysetStatement.envelope),
        document: bytesToBase64(next.keysetBytes),
      });
      issuer = next;
    },
    state: () => state,
    session: () => session().session,
    beat,
    drain: () => call("drain", {}),
    leave: () => call("leave", {}),
    async close() {
      stopping.abort();
      wake?.();
      await running;
    },
  };
}
