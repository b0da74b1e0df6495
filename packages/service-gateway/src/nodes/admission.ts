import { AssayError, bytesToBase64, bytesToHex, equalBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { joinMessage } from "@assay/protocol";
import type { Advertisement, Joined, JoinRequest, JoinWire } from "@assay/protocol";
import type { Auth } from "../auth.ts";
import type { KeysetMark } from "../decode-record.ts";
import type { LogState } from "../log-state.ts";
import type { Recorder } from "../recorder.ts";
import { checkKeyset, subjectOf } from "./keysets.ts";
import type { CheckedKeyset } from "./keysets.ts";
import { HEARTBEAT_MS } from "./registry.ts";
import type { NodeRegistry, Party } from "./registry.ts";

/** Lets parties in: what they claim is checked, their keysets are logged, and only then are they given work. */
export type Admission = {
  /**
   * Takes a request to join. Throws `challenge_invalid`, `node_keyset_invalid`, `node_keyset_stale`,
   * `node_claim_unproven`, `node_url_invalid`, `node_ejected`, `invite_invalid`, `nodes_full`.
   */
  readonly join: (request: JoinRequest, wire: JoinWire) => Promise<Joined>;
  /** The operator's word: lets in who waits, or again who was ejected. */
  readonly admit: (key: string, options?: { readonly country?: string }) => Promise<Party>;
  readonly eject: (key: string, reason: string) => Promise<Party>;
  readonly drain: (key: string) => Promise<Party>;
  readonly leave: (party: Party) => Promise<void>;
  /** Logs a new keyset of a party that is in. */
  readonly keyset: (
    party: Party,
    keyset: { readonly envelope: Uint8Array; readonly document: Uint8Array },
  ) => Promise<void>;
};

export type AdmissionModules = {
  readonly registry: NodeRegistry;
  readonly recorder: Pick<Recorder, "logKeyset">;
  readonly state: Pick<LogState, "lastKeyset" | "keysetIndex">;
  readonly auth: Pick<Auth, "proven">;
  readonly suite: CryptoSuite;
  /** Raw Ed25519 key of the operator, whose countersignature admits at once. */
  readonly operatorKey: Uint8Array;
  readonly now: () => number;
};

export type AdmissionOptions = {
  readonly heartbeatMs?: number;
  /** Whether nodes elsewhere may be reached over plain http: their secrets then cross the network in the open. */
  readonly allowPlainHttp?: boolean;
};

/** Makes the authority over who is let in. */
export function createAdmission(modules: AdmissionModules, options: AdmissionOptions = {}): Admission {
  const { registry, recorder, state, suite, now } = modules;
  const heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;

  const assertNext = (keyset: CheckedKeyset): void => {
    const last = state.lastKeyset(keyset.document.subject);
    if (!last || equalBytes(last.keyset, keyset.digest)) return;
    const { bootSeq, previousKeyset } = keyset.document;
    // A keyset that was made and never announced leaves a gap, and is no harm: nothing was signed under it.
    const follows =
      bootSeq > last.bootSeq &&
      (bootSeq > last.bootSeq + 1 || (previousKeyset !== undefined && equalBytes(previousKeyset, last.keyset)));
    if (!follows) throw stale(keyset, last);
  };

  const log = async (keyset: CheckedKeyset): Promise<void> => {
    if (state.keysetIndex(bytesToHex(keyset.digest)) !== undefined) return;
    assertNext(keyset);
    await recorder.logKeyset({ envelope: keyset.envelope, document: keyset.bytes });
  };

  const wanted = (key: string): Party => {
    const party = registry.party(key);
    if (party) return party;
    throw new AssayError("node_not_found", `No node ${key.slice(0, 64)} is known here.`);
  };

  return {
    async join(request, wire) {
      const { publicKey, role } = request;
      const { signature: _own, countersignature: _operators, invite: _invite, ...signed } = wire;
      await modules.auth.proven({
        publicKey: bytesToBase64(publicKey),
        challenge: request.challenge,
        message: joinMessage(suite, "node", signed),
        signature: request.signature,
      });
      const keyset = await checkKeyset(suite, request.keyset, now());
      if (keyset.document.role !== role || !equalBytes(keyset.document.identity.publicKey, publicKey))
        throw new AssayError("node_keyset_invalid", "The keyset is another party's than the one that joins.");
      assertNext(keyset);
      assertClaims(request.advertisement);
      assertReachable(request, options.allowPlainHttp ?? false);
      const key = bytesToHex(publicKey);
      const known = registry.party(key);
      if (known?.state === "ejected") {
        throw new AssayError("node_ejected", `This node was ejected: ${known.ejectedFor ?? "by the operator"}.`, {
          hints: ["The operator may admit it again."],
        });
      }
      const subject = subjectOf(suite, role, publicKey);
      const other = registry.bySubject(subject);
      // Subjects hold eight bytes of the key's hash: two keys that share them cannot both be told apart in receipts.
      if (other && other.key !== key)
        throw new AssayError("node_keyset_invalid", `Another party is called ${subject} already.`);
      const admittedBy = known?.admittedBy ?? (await admission(request, signed));
      if (admittedBy !== undefined) await log(keyset);
      const party: Party = {
        ...known,
        key,
        publicKey,
        subject,
        role,
        state: admittedBy === undefined ? "pending" : "active",
        ...(admittedBy === undefined ? {} : { admittedBy }),
        advertisement: request.advertisement,
        keyset: { envelope: keyset.envelope, document: keyset.bytes },
        joinedAtMs: now(),
        lastSeenMs: now(),
        audits: known?.audits ?? { agreed: 0, disagreed: 0, impossible: 0 },
        vouched: known?.vouched ?? new Set(),
      };
      delete party.suspect;
      delete party.load;
      for (const name of ["url", "secret"] as const) delete party[name];
      if (request.url !== undefined) party.url = request.url.replace(/\/+$/, "");
      if (request.secret) party.secret = request.secret;
      registry.put(party);
      const session = registry.openSession(party);
      if (admittedBy !== undefined) await registry.save();
      return { subject, state: party.state, session, heartbeatMs };
    },
    async admit(key, { country } = {}) {
      const party = wanted(key);
      await log(await checkKeyset(suite, party.keyset));
      if (country === undefined) delete party.registryCountry;
      else party.registryCountry = country;
      if (party.state !== "active")
        registry.transition(party, "active", { admittedBy: party.admittedBy ?? "operator" });
      await registry.save();
      return party;
    },
    async eject(key, reason) {
      const party = wanted(key);
      registry.transition(party, "ejected", { ejectedFor: reason });
      await registry.save();
      return party;
    },
    async drain(key) {
      const party = wanted(key);
      if (party.state === "active") {
        registry.transition(party, "draining");
        await registry.save();
      }
      return party;
    },
    async leave(party) {
      if (party.state === "pending") {
        registry.remove(party.key);
        return;
      }
      if (party.state === "ejected") return;
      registry.transition(party, "left");
      await registry.save();
    },
    async keyset(party, bytes) {
      const keyset = await checkKeyset(suite, bytes, now());
      if (keyset.document.role !== party.role || !equalBytes(keyset.document.identity.publicKey, party.publicKey))
        throw new AssayError("node_keyset_invalid", "The keyset is another party's than the one that sends it.");
      assertNext(keyset);
      if (party.admittedBy !== undefined) await log(keyset);
      party.keyset = { envelope: keyset.envelope, document: keyset.bytes };
      if (party.admittedBy !== undefined) await registry.save();
    },
  };

  async function admission(
    request: JoinRequest,
    signed: Parameters<typeof joinMessage>[2],
  ): Promise<Party["admittedBy"] | undefined> {
    if (request.countersignature) {
      const message = joinMessage(suite, "operator", signed);
      if (!(await suite.verify("ed25519", modules.operatorKey, message, request.countersignature)))
        throw new AssayError("challenge_invalid", "The countersignature is not by this gateway's operator.");
      return "owner";
    }
    if (request.invite === undefined) return undefined;
    registry.spendInvite(request.invite);
    return "invite";
  }
}

/** What a node may say of itself without evidence: that it runs models, and where it believes to stand. */
function assertClaims({ jurisdiction, securityModes }: Advertisement): void {
  const unproven =
    jurisdiction && jurisdiction.evidence !== "declared"
      ? `a jurisdiction known by ${jurisdiction.evidence}`
      : securityModes.find((mode) => mode !== "vanilla");
  if (unproven === undefined) return;
  throw new AssayError("node_claim_unproven", `A node claims ${unproven}, and shows no evidence for it.`, {
    hints: ["A node declares its jurisdiction; the operator may vouch for it when admitting the node."],
  });
}

function assertReachable({ role, url, secret }: JoinRequest, allowPlain: boolean): void {
  const refused = (why: string): AssayError => new AssayError("node_url_invalid", `The node's address ${why}.`);
  if (url === undefined) {
    if (role === "gateway") return;
    throw refused("is missing");
  }
  if (!secret) throw refused("came without the secret to show there");
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw refused("is not one");
  }
  const local = ["127.0.0.1", "[::1]", "localhost"].includes(parsed.hostname);
  if (parsed.protocol !== "https:" && !(parsed.protocol === "http:" && (local || allowPlain)))
    throw refused("is not https, and not on this machine");
  if (parsed.username !== "" || parsed.password !== "" || parsed.search !== "" || parsed.hash !== "")
    throw refused("holds more than an origin and a path");
}

function stale(keyset: CheckedKeyset, last: KeysetMark): AssayError<"node_keyset_stale"> {
  return new AssayError(
    "node_keyset_stale",
    `The keyset of boot ${keyset.document.bootSeq} does not follow that of boot ${last.bootSeq}, which is logged.`,
    { hints: ["Ask at /v1/nodes/challenge where the log has this identity, and make a keyset that follows it."] },
  );
}
