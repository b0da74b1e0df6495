import { randomBytes } from "node:crypto";
import { bytesToHex } from "@assay/core";
import type { Signer } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import type { FileKeystore } from "@assay/driver-crypto";
import { createIssuer, keyId } from "@assay/receipts";
import type { ChainHead, Issuer, KeyUse, TrustedIdentity } from "@assay/receipts";
import type { Issuers, LogState } from "@assay/service-gateway";

/** A keyset lives at most a day; the recorder replaces it an hour before. */
const KEYSET_MS = 24 * 60 * 60 * 1000;
/**
 * A keyset begins this much before it is made: what was dated a moment before a rotation is signed after it, and small
 * corrections of the clock change nothing.
 */
const EARLY_MS = 5 * 60 * 1000;
const USES = {
  node: ["execution", "supplement"],
  gateway: ["service", "supplement", "release"],
} as const satisfies Record<"node" | "gateway", readonly KeyUse[]>;

/** The two parties of one process: their long-lived identities, and issuers with fresh keys that never touch a disk. */
export type Parties = {
  readonly nodeSubject: string;
  readonly gatewaySubject: string;
  readonly identities: readonly TrustedIdentity[];
  /** Makes both issuers, continuing the chains where the log left them. */
  readonly issue: (heads: { readonly node?: ChainHead; readonly gateway?: ChainHead }) => Promise<Issuers>;
  /** The node's execution key of the latest issuer, for exports that need a signature of their own. */
  readonly executionSigner: () => Signer;
};

/** Opens the parties of a home. `label` says in verdicts what kind of keys these are. */
export function openParties(keystore: FileKeystore, state: LogState, label: string, now: () => number): Parties {
  const identity = {
    node: keystore.signer("node-identity", "ed25519"),
    gateway: keystore.signer("gateway-identity", "ed25519"),
  };
  const subject = (role: "node" | "gateway"): string =>
    `urn:assay:${role}:${bytesToHex(keyId(nodeSuite, identity[role].publicKey))}`;
  let execution: Signer | undefined;
  // A state follows the log only once records are applied, so the latest keysets are also kept here.
  const latest = new Map<string, { bootSeq: number; keyset: Uint8Array; statement: Uint8Array }>();

  const issuer = async (role: "node" | "gateway", head: ChainHead | undefined): Promise<Issuer> => {
    const of = subject(role);
    const previous = latest.get(of) ?? state.lastKeyset(of);
    const keys = Object.fromEntries(USES[role].map((use) => [use, ed25519Signer(randomSeed())])) as Partial<
      Record<KeyUse, Signer>
    >;
    if (role === "node") execution = keys.execution;
    const madeMs = now();
    const made = await createIssuer({
      suite: nodeSuite,
      subject: of,
      role,
      identity: identity[role],
      keys,
      instanceId: new Uint8Array(randomBytes(16)),
      bootSeq: previous ? previous.bootSeq + 1 : 0,
      ...(previous ? { previous: { keyset: previous.keyset, statement: previous.statement } } : {}),
      notBeforeMs: madeMs - EARLY_MS,
      notAfterMs: madeMs + KEYSET_MS,
      ...(head ? { head } : {}),
    });
    latest.set(of, {
      bootSeq: made.document.bootSeq,
      keyset: made.keysetDigest,
      statement: made.keysetStatement.digest,
    });
    return made;
  };

  return {
    nodeSubject: subject("node"),
    gatewaySubject: subject("gateway"),
    identities: (["node", "gateway"] as const).map((role) => ({
      algorithm: "ed25519",
      publicKey: identity[role].publicKey,
      subject: subject(role),
      label,
    })),
    async issue(heads) {
      return { node: await issuer("node", heads.node), gateway: await issuer("gateway", heads.gateway) };
    },
    executionSigner() {
      if (!execution) throw new TypeError("No issuer was made yet.");
      return execution;
    },
  };
}
