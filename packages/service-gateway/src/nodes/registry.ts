import { createHash, randomBytes } from "node:crypto";
import { AssayError, base64ToBytes, bytesToBase64, bytesToHex, isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { advertisementSchema, PARTY_STATES, parseValue } from "@assay/protocol";
import type { Advertisement, Heartbeat, PartyRole, PartyState } from "@assay/protocol";
import type { TrustedIdentity } from "@assay/receipts";
import type { NodeCandidate } from "@assay/routing";

/** Another party that this gateway knows: a node that runs for it, or a gateway that writes to its log. */
export type Party = {
  /** The identity's public key, lower-case hex: its name in routes. */
  readonly key: string;
  readonly publicKey: Uint8Array;
  readonly subject: string;
  readonly role: PartyRole;
  state: PartyState;
  /** Who let it in; absent while it is pending. */
  admittedBy?: "operator" | "invite" | "owner";
  url?: string;
  secret?: Uint8Array;
  advertisement: Advertisement;
  /** SHA-256 of the session's bearer, lower-case hex; absent once it left. */
  session?: string;
  /** The keyset of its latest join, to be logged when it is admitted. */
  keyset: { readonly envelope: Uint8Array; readonly document: Uint8Array };
  /** A country that the operator vouches for. */
  registryCountry?: string;
  joinedAtMs: number;
  lastSeenMs: number;
  ejectedAtMs?: number;
  ejectedFor?: string;
  load?: Heartbeat;
  /** Set when a request to it broke off; cleared by its next heartbeat. */
  suspect?: boolean;
  readonly audits: { agreed: number; disagreed: number; impossible: number };
  /** Identities of nodes whose keysets a peer gateway logged, lower-case hex. */
  readonly vouched: Set<string>;
};

export type Liveness = "alive" | "suspect" | "gone";

/** Who joined, in what state, and how lately heard of. In memory, with the admitted in a document of the owner's. */
export type NodeRegistry = {
  readonly party: (key: string) => Party | undefined;
  readonly bySubject: (subject: string) => Party | undefined;
  readonly list: () => readonly Party[];
  readonly liveness: (party: Party) => Liveness;
  /** The party behind a session's bearer. Throws `node_session_unknown`. */
  readonly session: (authorization: string | undefined) => Party;
  /** Gives a new session, which ends the one before it. */
  readonly openSession: (party: Party) => string;
  /** Adds or replaces. Throws `nodes_full` when too many are known or pending. */
  readonly put: (party: Party) => void;
  readonly remove: (key: string) => void;
  /** Changes the state and tells whoever listens. Not durable by itself: {@link NodeRegistry.save}. */
  readonly transition: (
    party: Party,
    state: PartyState,
    facts?: Partial<Pick<Party, "admittedBy" | "ejectedFor">>,
  ) => void;
  readonly heard: (party: Party, load: Heartbeat) => void;
  /** A request to it broke off: it is suspect until it speaks again. */
  readonly lost: (key: string) => void;
  /** Counts an audit's result; ejects at the limit. */
  readonly audited: (key: string, result: "agree" | "disagree" | "impossible") => void;
  readonly mintInvite: (ttlMs: number) => { readonly invite: string; readonly expiresAtMs: number };
  /** Takes an invite, once. Throws `invite_invalid`. */
  readonly spendInvite: (invite: string) => void;
  /** Identities for trust documents: everybody who was ever admitted; validity is judged at log time. */
  readonly identities: () => readonly TrustedIdentity[];
  readonly revoked: () => readonly { readonly key: string; readonly sinceMs: number; readonly reason: string }[];
  /** Nodes that can be given work, as the router looks at them. */
  readonly candidates: () => readonly NodeCandidate[];
  readonly onChange: (listener: (party: Party) => void) => () => void;
  readonly save: () => Promise<void>;
};

export type RegistryModules = {
  /** The saved document, or undefined when there is none. It holds secrets: readable by its owner alone. */
  readonly load: () => Promise<string | undefined>;
  readonly store: (text: string) => Promise<void>;
  readonly now: () => number;
};

export type RegistryOptions = {
  readonly heartbeatMs?: number;
  /** Silence after which a node is suspect, and gone, milliseconds. */
  readonly suspectMs?: number;
  readonly goneMs?: number;
  /** Audits that disagree before a node is ejected. */
  readonly maxDisagreements?: number;
};

export const HEARTBEAT_MS = 3000;
const MAX_PARTIES = 4096;
/** Anybody may ask to join, so few may wait, and not for ever. */
const MAX_PENDING = 256;
const PENDING_MS = 60 * 60 * 1000;
const MAX_INVITES = 1024;
const MAX_FILE_BYTES = 64 * 1024 * 1024;
const SESSION = "assaynode_";

/** Opens the registry. A damaged document is an error: with it the admissions would be lost. */
export async function openNodeRegistry(
  { load, store, now }: RegistryModules,
  options: RegistryOptions = {},
): Promise<NodeRegistry> {
  const suspectMs = options.suspectMs ?? 3 * (options.heartbeatMs ?? HEARTBEAT_MS);
  const goneMs = options.goneMs ?? 10 * (options.heartbeatMs ?? HEARTBEAT_MS);
  const maxDisagreements = options.maxDisagreements ?? 1;
  const parties = new Map<string, Party>();
  const sessions = new Map<string, Party>();
  const invites = new Map<string, number>();
  const listeners = new Set<(party: Party) => void>();
  const text = await load();
  if (text !== undefined) restore(text, parties, invites);
  for (const party of parties.values()) if (party.session !== undefined) sessions.set(party.session, party);

  // While this gateway was away nobody could be heard: silence counts from now on.
  const openedMs = now();
  const restored = new WeakSet(parties.values());
  const heardMs = (party: Party): number =>
    restored.has(party) ? Math.max(party.lastSeenMs, openedMs) : party.lastSeenMs;
  const told = (party: Party): void => {
    for (const listener of listeners) listener(party);
  };
  const liveness = (party: Party): Liveness => {
    const silentMs = now() - heardMs(party);
    if (silentMs > goneMs) return "gone";
    return silentMs > suspectMs || party.suspect ? "suspect" : "alive";
  };
  const forgetPending = (): number => {
    let pending = 0;
    for (const party of parties.values()) {
      if (party.state !== "pending") continue;
      if (now() - party.lastSeenMs > PENDING_MS) remove(party.key);
      else pending++;
    }
    return pending;
  };
  const remove = (key: string): void => {
    const party = parties.get(key);
    if (party?.session !== undefined) sessions.delete(party.session);
    parties.delete(key);
  };
  const endSession = (party: Party): void => {
    if (party.session !== undefined) sessions.delete(party.session);
    delete party.session;
  };

  let saving: Promise<void> = Promise.resolve();
  return {
    party: (key) => parties.get(key),
    bySubject: (subject) => [...parties.values()].find((party) => party.subject === subject),
    list: () => [...parties.values()],
    liveness,
    session(authorization) {
      const token = /^Bearer (assaynode_[\w-]{43})$/.exec(authorization ?? "")?.[1];
      const party = token === undefined ? undefined : sessions.get(hashOf(token));
      if (party) return party;
      throw new AssayError("node_session_unknown", "No node or gateway has this session here.", {
        hints: ["Join again at /v1/nodes/join."],
      });
    },
    openSession(party) {
      endSession(party);
      const token = `${SESSION}${randomBytes(32).toString("base64url")}`;
      party.session = hashOf(token);
      sessions.set(party.session, party);
      return token;
    },
    put(party) {
      const known = parties.get(party.key);
      if (!known) {
        const pending = forgetPending();
        if (parties.size >= MAX_PARTIES || (party.state === "pending" && pending >= MAX_PENDING)) {
          throw new AssayError("nodes_full", "Too many nodes are known, or wait to be admitted.", {
            hints: ["Ask the operator for an invite, or try again in an hour."],
          });
        }
      } else if (known !== party && known.session !== undefined) sessions.delete(known.session);
      parties.set(party.key, party);
      told(party);
    },
    remove,
    transition(party, state, facts = {}) {
      party.state = state;
      if (facts.admittedBy) party.admittedBy = facts.admittedBy;
      if (state === "ejected") {
        party.ejectedAtMs = now();
        party.ejectedFor = facts.ejectedFor ?? "ejected by the operator";
      }
      if (state === "left") {
        endSession(party);
        delete party.secret;
      }
      told(party);
    },
    heard(party, load_) {
      party.lastSeenMs = now();
      party.load = load_;
      delete party.suspect;
    },
    lost(key) {
      const party = parties.get(key);
      if (!party) return;
      party.suspect = true;
      told(party);
    },
    audited(key, result) {
      const party = parties.get(key);
      if (!party) return;
      if (result === "agree") party.audits.agreed++;
      else if (result === "impossible") party.audits.impossible++;
      else if (++party.audits.disagreed >= maxDisagreements && party.state !== "ejected") {
        party.state = "ejected";
        party.ejectedAtMs = now();
        party.ejectedFor = `${party.audits.disagreed} audits by re-execution disagreed`;
      }
      told(party);
    },
    mintInvite(ttlMs) {
      for (const [hash, until] of invites) if (until < now()) invites.delete(hash);
      if (invites.size >= MAX_INVITES) throw new AssayError("nodes_full", "Too many invites are open.");
      const invite = randomBytes(24).toString("base64url");
      const expiresAtMs = now() + ttlMs;
      invites.set(hashOf(invite), expiresAtMs);
      return { invite, expiresAtMs };
    },
    spendInvite(invite) {
      const hash = hashOf(invite);
      const until = invites.get(hash);
      invites.delete(hash);
      if (until === undefined || until < now()) {
        throw new AssayError("invite_invalid", "The invite is unknown, was used, or has expired.", {
          hints: ["The operator mints another one."],
        });
      }
    },
    identities: () =>
      [...parties.values()].flatMap((party) =>
        party.admittedBy === undefined
          ? []
          : [
              {
                algorithm: "ed25519" as const,
                publicKey: party.publicKey,
                subject: party.subject,
                label: party.role,
              },
              ...[...party.vouched].map((key) => ({
                algorithm: "ed25519" as const,
                publicKey: new Uint8Array(Buffer.from(key, "hex")),
                label: "node",
              })),
            ],
      ),
    revoked: () =>
      [...parties.values()].flatMap(({ key, state, ejectedAtMs, ejectedFor }) =>
        state === "ejected" && ejectedAtMs !== undefined
          ? [{ key, sinceMs: ejectedAtMs, reason: ejectedFor ?? "ejected" }]
          : [],
      ),
    candidates: () =>
      [...parties.values()].flatMap((party) =>
        party.role === "node" &&
        party.url !== undefined &&
        (party.state === "active" || party.state === "draining") &&
        liveness(party) !== "gone"
          ? [candidateOf(party, heardMs(party), liveness(party) === "suspect")]
          : [],
      ),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    // One write at a time, each of what is true when it begins.
    save() {
      saving = saving.then(
        () => store(`${JSON.stringify(view(parties, invites))}\n`),
        () => store(`${JSON.stringify(view(parties, invites))}\n`),
      );
      return saving;
    },
  };
}

function candidateOf(party: Party, lastSeenMs: number, suspect: boolean): NodeCandidate {
  const { advertisement, load, registryCountry } = party;
  const { jurisdiction, offers, securityModes, cpuClass, accelerator, slots, capacity } = advertisement;
  const warm = new Set(load?.warm);
  const where =
    registryCountry === undefined ? jurisdiction : { country: registryCountry, evidence: "registry" as const };
  return {
    subject: party.subject,
    securityModes,
    ...(where ? { jurisdiction: where } : {}),
    ...(cpuClass === undefined ? {} : { cpuClass }),
    ...(accelerator === undefined ? {} : { accelerator }),
    ...(slots === undefined ? {} : { slots }),
    ...(capacity === undefined ? {} : { capacity }),
    ...(load ? { reportedDepth: load.running + load.queued } : {}),
    lastSeenMs,
    // A suspect node gets nothing new, exactly as one that drains; its next heartbeat clears it.
    ...(party.state === "draining" || suspect || load?.healthy === false ? { draining: true } : {}),
    offers: offers.map((offer) => ({ ...defined(offer), ...(warm.has(offer.model) ? { warm: true } : {}) })),
  } as NodeCandidate;
}

/** The same without members that are undefined, which exact optional types do not allow. */
function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as T;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function view(parties: ReadonlyMap<string, Party>, invites: ReadonlyMap<string, number>): JsonValue {
  return {
    version: 1,
    // Whoever waits to be admitted asks again; the document is of those who were.
    parties: [...parties.values()]
      .filter(({ state }) => state !== "pending")
      .map(({ publicKey, secret, keyset, load: _load, suspect: _suspect, vouched, ...rest }) => ({
        ...(rest as unknown as { readonly [key: string]: JsonValue }),
        publicKey: bytesToBase64(publicKey),
        ...(secret ? { secret: bytesToBase64(secret) } : {}),
        keyset: { envelope: bytesToBase64(keyset.envelope), document: bytesToBase64(keyset.document) },
        vouched: [...vouched],
      })),
    invites: Object.fromEntries(invites),
  };
}

type SavedParty = Omit<Party, "publicKey" | "secret" | "keyset" | "vouched"> & {
  readonly publicKey: string;
  readonly secret?: string;
  readonly keyset: { readonly envelope: string; readonly document: string };
  readonly vouched: readonly string[];
};

function restore(text: string, parties: Map<string, Party>, invites: Map<string, number>): void {
  try {
    const saved = parseJson(text, { maxBytes: MAX_FILE_BYTES, maxDepth: 12 }) as unknown as {
      readonly version: number;
      readonly parties: readonly SavedParty[];
      readonly invites: Readonly<Record<string, number>>;
    };
    if (saved.version !== 1) throw new TypeError(`version ${saved.version}`);
    for (const { publicKey, secret, keyset, vouched, ...rest } of saved.parties) {
      const bytes = base64ToBytes(publicKey);
      if (bytesToHex(bytes) !== rest.key || !PARTY_STATES.includes(rest.state)) throw new TypeError("a party");
      parties.set(rest.key, {
        ...rest,
        advertisement: parseValue(advertisementSchema, rest.advertisement),
        publicKey: bytes,
        ...(secret === undefined ? {} : { secret: base64ToBytes(secret) }),
        keyset: { envelope: base64ToBytes(keyset.envelope), document: base64ToBytes(keyset.document) },
        vouched: new Set(vouched),
      });
    }
    for (const [hash, until] of Object.entries(saved.invites)) invites.set(hash, until);
  } catch (cause) {
    if (!isAssayError(cause) && !(cause instanceof TypeError)) throw cause;
    throw new AssayError("nodes_file_invalid", "The document of admitted nodes cannot be read.", {
      hints: ["Restore it from a copy, or remove it and admit the nodes again."],
      cause,
    });
  }
}
