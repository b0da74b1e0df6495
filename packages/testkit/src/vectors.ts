import { bytesToBase64 } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { ed25519Signer, nodeSuite } from "@assay/driver-crypto";
import {
  encodeBundle,
  encodeClaims,
  keyId,
  prepareStatement,
  sealStatement,
  signBatch,
  trustView,
} from "@assay/receipts";
import type { Bundle, ExecutionClaims, Policy, Trust } from "@assay/receipts";
import { MOCK_KINDS, MOCK_TIME_MS, makeReceipt } from "./mock-receipts.ts";
import { fixedSeed, makeParty } from "./parties.ts";
import type { MockOptions, MockReceipt } from "./mock-receipts.ts";

/** One published vector: a bundle, what the verifier starts from, and what it must find. */
export type Vector = {
  readonly name: string;
  readonly receipt: Uint8Array;
  readonly trust: Trust;
  readonly policy?: Policy;
  readonly now: number;
  readonly expect: { readonly status: "verified" | "failed" | "inconclusive"; readonly code: string };
};

const WITH_NOTHING: Policy = {};

/** All vectors, byte for byte the same each time. Refusals outnumber acceptances. */
export async function makeVectors(): Promise<Vector[]> {
  const vectors: Vector[] = [];
  const add = (
    name: string,
    from: MockReceipt,
    status: Vector["expect"]["status"],
    code: string,
    changes: Partial<Vector> = {},
  ): void => {
    vectors.push({ name, receipt: from.bytes, trust: from.trust, now: from.now, expect: { status, code }, ...changes });
  };
  const make = (options: MockOptions = {}): Promise<MockReceipt> => makeReceipt({ mlDsa: false, ...options });
  const changed = (from: MockReceipt, change: (bundle: Bundle) => Partial<Bundle>): { receipt: Uint8Array } => ({
    receipt: encodeBundle({ ...from.bundle, ...change(from.bundle) }),
  });
  const base = await make();

  for (const kind of MOCK_KINDS) {
    const receipt = await make({ kind });
    if (kind === "tee")
      add("tee: the attestation is another check's business", receipt, "inconclusive", "attestation_unchecked");
    else if (kind === "zkml")
      add("zkml: the proof is another check's business", receipt, "inconclusive", "proof_unchecked");
    else if (kind === "zkml-pending") add("zkml: the proof has not arrived", receipt, "inconclusive", "proof_pending");
    else add(`accept: ${kind}`, receipt, "verified", "verified");
  }
  add("accept: nothing opened", await make({ open: false }), "verified", "verified");
  add("accept: no witness wanted and none there", await make({ witnesses: 0 }), "verified", "verified");
  add("accept: keysets pinned by digest", base, "verified", "verified", {
    trust: {
      ...base.trust,
      identities: [],
      keysets: [base.node, base.gateway].map(({ keyset }) => Buffer.from(keyset.digest).toString("hex")),
    },
  });
  add("accept: one signature over a batch of five", await batched(base), "verified", "verified");
  add("accept: revoked after it was logged", base, "verified", "verified", {
    trust: {
      ...base.trust,
      revoked: [
        {
          key: Buffer.from(base.node.keyset.digest).toString("hex"),
          sinceMs: MOCK_TIME_MS + 86_400_000,
          reason: "retired",
        },
      ],
    },
  });
  add("accept: an unknown cosignature that the trust says to ignore", base, "verified", "verified", {
    trust: {
      ...base.trust,
      logs: base.trust.logs.map((log) => ({
        ...log,
        witnesses: log.witnesses.slice(1),
        quorum: 1,
        ignoreUnknownSignatures: true,
      })),
    },
  });

  add("trust: nothing is trusted", base, "inconclusive", "keyset_not_trusted", {
    trust: { identities: [], keysets: [], logs: [], revoked: [], roots: [], chains: [] },
  });
  add(
    "trust: a wholly forged bundle",
    await make({ nodeName: "mallory", gatewayName: "mallet", origin: "mallory.example/log" }),
    "inconclusive",
    "keyset_not_trusted",
    { trust: base.trust },
  );
  add("trust: the identity is trusted for another subject", base, "inconclusive", "keyset_not_trusted", {
    trust: {
      ...base.trust,
      identities: base.trust.identities.map((known) => ({ ...known, subject: "urn:assay:node:other" })),
    },
  });
  add("trust: the log is not trusted", base, "inconclusive", "log_not_trusted", { trust: { ...base.trust, logs: [] } });
  add("trust: an unknown cosignature", base, "inconclusive", "signature_unknown", {
    trust: {
      ...base.trust,
      logs: base.trust.logs.map((log) => ({ ...log, witnesses: log.witnesses.slice(1), quorum: 1 })),
    },
  });
  add("trust: a witness is missing", await make({ witnesses: 1 }), "failed", "quorum_missing", { trust: base.trust });
  add("trust: the keyset was revoked before it was logged", base, "failed", "keyset_revoked", {
    trust: {
      ...base.trust,
      revoked: [{ key: Buffer.from(base.node.keyset.digest).toString("hex"), sinceMs: MOCK_TIME_MS, reason: "leaked" }],
    },
  });
  add("trust: the identity key was revoked", base, "failed", "keyset_revoked", {
    trust: {
      ...base.trust,
      revoked: [{ key: Buffer.from(base.gateway.identity.publicKey).toString("hex"), sinceMs: 0, reason: "leaked" }],
    },
  });

  const wantNonce = "00".repeat(16);
  const policies: [string, Policy, string][] = [
    ["a mode that is not accepted", { modes: ["tee", "zkml"] }, "mode_refused"],
    ["another model", { modelDigest: "11".repeat(32) }, "model_refused"],
    ["another nonce", { clientNonce: wantNonce }, "nonce_mismatch"],
    ["too old", { maxAgeMs: 1000 }, "too_old"],
  ];
  for (const [name, policy, code] of policies) add(`policy: ${name}`, base, "failed", code, { policy });
  add("policy: issued after the verifier's clock", base, "failed", "issued_in_future", { now: MOCK_TIME_MS - 300_001 });
  add("policy: five minutes of clock skew are allowed", base, "verified", "verified", { now: MOCK_TIME_MS - 299_000 });
  add(
    "policy: an unchecked payment may be required",
    await make({ kind: "paid-chat" }),
    "inconclusive",
    "payment_unchecked",
    { policy: { require: ["payment"] } },
  );

  add(
    "log: no proof at all",
    base,
    "inconclusive",
    "not_logged",
    changed(base, () => ({ log: [], checkpoints: [] })),
  );
  add(
    "log: a supplement is not logged",
    await make({ kind: "paid-chat" }),
    "inconclusive",
    "not_logged",
    await (async () => {
      const paid = await make({ kind: "paid-chat" });
      return changed(paid, (bundle) => ({ log: bundle.log?.slice(0, 1) ?? [] }));
    })(),
  );
  const proof = base.bundle.log?.[0];
  const note = base.bundle.checkpoints?.[0] ?? "";
  if (!proof) throw new Error("The mock receipt has no log proof.");
  const withProof = (change: Partial<typeof proof>): { receipt: Uint8Array } =>
    changed(base, () => ({ log: [{ ...proof, ...change }] }));
  add("log: another index", base, "failed", "not_included", withProof({ index: proof.index - 1 }));
  add("log: an index past the tree", base, "failed", "not_included", withProof({ index: proof.index + 1 }));
  add("log: a path one hash short", base, "failed", "not_included", withProof({ path: proof.path.slice(1) }));
  add(
    "log: a path one hash long",
    base,
    "failed",
    "not_included",
    withProof({ path: [...proof.path, new Uint8Array(32)] }),
  );
  add("log: a path in another order", base, "failed", "not_included", withProof({ path: proof.path.toReversed() }));
  add("log: a checkpoint that is not there", base, "failed", "checkpoint_missing", withProof({ checkpoint: 1 }));
  add(
    "log: a checkpoint that no proof uses",
    base,
    "failed",
    "checkpoint_unreferenced",
    changed(base, () => ({ checkpoints: [note, note] })),
  );
  add(
    "log: an entry of another receipt",
    base,
    "failed",
    "entry_unrelated",
    await (async () => {
      const other = await make({ kind: "step" });
      return changed(base, () => ({ log: other.bundle.log?.slice(0, 1) ?? [] }));
    })(),
  );
  add("log: an entry that is not one", base, "failed", "entry_invalid", withProof({ entry: new Uint8Array([0x80]) }));
  add(
    "log: another root in the checkpoint",
    base,
    "failed",
    "checkpoint_invalid",
    changed(base, () => ({ checkpoints: [swapRoot(note)] })),
  );
  add(
    "log: the log's own signature is gone",
    base,
    "failed",
    "log_signature_missing",
    changed(base, () => ({ checkpoints: [withoutLine(note, 0)] })),
  );
  add("log: a redundant cosignature that fails", await make({ witnesses: 2 }), "failed", "checkpoint_invalid", {
    ...changed(base, () => ({ checkpoints: [corruptLine(note, 2)] })),
    trust: { ...base.trust, logs: base.trust.logs.map((log) => ({ ...log, quorum: 1 })) },
  });
  add(
    "log: no checkpoint text",
    base,
    "failed",
    "checkpoint_invalid",
    changed(base, () => ({ checkpoints: [""] })),
  );

  const [first, second] = base.bundle.statements;
  if (!first || !second) throw new Error("The mock receipt has no two statements.");
  const statements = (...list: Bundle["statements"]): { receipt: Uint8Array } =>
    changed(base, () => ({ statements: list }));
  add("statements: none", base, "failed", "execution_missing", statements());
  add("statements: only the service statement", base, "failed", "execution_missing", statements(second));
  add("statements: the service statement first", base, "failed", "bundle_order", statements(second, first));
  add("statements: the execution twice", base, "failed", "statement_duplicate", statements(first, first));
  add(
    "statements: claims of another statement",
    base,
    "failed",
    "claims_mismatch",
    statements({ ...first, claims: second.claims }, second),
  );
  add(
    "statements: one claim byte changed",
    base,
    "failed",
    "claims_mismatch",
    statements({ ...first, claims: flip(first.claims, first.claims.length - 1) }, second),
  );
  add("statements: one signature byte changed", base, "failed", "signature_invalid", {
    receipt: replaceStatement(base, 0, flip(first.envelope, first.envelope.length - 1)),
  });
  add("statements: not tagged as COSE_Sign1", base, "failed", "statement_invalid", {
    receipt: replaceStatement(base, 0, first.envelope.slice(1)),
  });
  const other = await make({ kind: "step" });
  const otherService = other.bundle.statements[1];
  if (otherService)
    add(
      "statements: the service statement of another receipt",
      base,
      "failed",
      "receipt_id_mismatch",
      statements(first, otherService),
    );
  add(
    "statements: an empty envelope",
    base,
    "failed",
    "cbor_invalid",
    statements({ ...first, envelope: new Uint8Array() }, second),
  );

  add(
    "keysets: none",
    base,
    "inconclusive",
    "keyset_missing",
    changed(base, () => ({ keysets: [] })),
  );
  add(
    "keysets: only the gateway's",
    base,
    "inconclusive",
    "keyset_missing",
    changed(base, ({ keysets }) => ({ keysets: keysets.slice(1) })),
  );
  add(
    "keysets: a document of another",
    base,
    "failed",
    "claims_mismatch",
    changed(base, ({ keysets }) => ({
      keysets: keysets.map((keyset) => ({ ...keyset, document: keysets[1]?.document ?? keyset.document })),
    })),
  );
  add(
    "keysets: a signature byte changed",
    base,
    "failed",
    "keyset_signature_invalid",
    changed(base, ({ keysets }) => ({
      keysets: keysets.map((keyset, i) =>
        i === 0 ? { ...keyset, envelope: flip(keyset.envelope, keyset.envelope.length - 1) } : keyset,
      ),
    })),
  );
  const stranger = await makeParty({ name: "stranger", role: "node", notBeforeMs: 0, notAfterMs: MOCK_TIME_MS });
  add(
    "keysets: an unused one that nothing vouches for",
    base,
    "inconclusive",
    "keyset_not_trusted",
    changed(base, ({ keysets }) => ({
      keysets: [...keysets, { envelope: stranger.keysetStatement.envelope, document: stranger.keyset.bytes }],
    })),
  );

  const forgeries: [string, Partial<ExecutionClaims>, string, "failed" | "verified"][] = [
    ["tee mode without evidence", { mode: "tee" }, "claims_invalid", "failed"],
    ["zkml mode without a proof statement", { mode: "zkml" }, "claims_invalid", "failed"],
    [
      "a model digest without its scheme",
      { modelDigest: new Uint8Array(32), modelDigestScheme: undefined as never },
      "claims_invalid",
      "failed",
    ],
    ["an issue time that the header does not have", { issuedAtMs: MOCK_TIME_MS + 1000 }, "time_mismatch", "failed"],
    ["another request than is opened", { requestRoot: new Uint8Array(32) }, "commitment_mismatch", "failed"],
    ["another number of response fields", { responseFields: 3 }, "commitment_mismatch", "failed"],
    [
      "another preprocessing than the bundle carries",
      { preprocessingDigest: new Uint8Array(32) },
      "evidence_unreferenced",
      "failed",
    ],
    ["a fact in extensions", { extensions: { note: "shown, not interpreted" } }, "verified", "verified"],
  ];
  for (const [name, execution, code, status] of forgeries)
    add(`claims: ${name}`, await make({ execution }), status, code);
  add(
    "claims: a service statement for another execution",
    await make({ service: { executionDigest: new Uint8Array(32) } }),
    "failed",
    "execution_digest_mismatch",
  );

  add(
    "expired: issued after the keyset's end",
    await make({ execution: {}, nodeName: "alpha" }),
    "failed",
    "keyset_expired",
    await expired(),
  );

  const openings = base.bundle.openings ?? [];
  add(
    "openings: one byte of a tensor changed",
    base,
    "failed",
    "commitment_mismatch",
    changed(base, () => ({
      openings: openings.map((opening) => ({
        ...opening,
        fields: opening.fields.map((field) =>
          field.name.endsWith("/data") ? { ...field, value: flip(field.value, 0) } : field,
        ),
      })),
    })),
  );
  add(
    "openings: another salt",
    base,
    "failed",
    "commitment_mismatch",
    changed(base, () => ({ openings: openings.map((opening) => ({ ...opening, salt: new Uint8Array(32) })) })),
  );
  add(
    "openings: a field left out",
    base,
    "failed",
    "commitment_mismatch",
    changed(base, () => ({ openings: openings.map((opening) => ({ ...opening, fields: opening.fields.slice(1) })) })),
  );
  add(
    "openings: a side twice",
    base,
    "failed",
    "opening_duplicate",
    changed(base, () => ({ openings: openings.slice(0, 1).flatMap((opening) => [opening, opening]) })),
  );
  add(
    "openings: out of order",
    base,
    "failed",
    "opening_invalid",
    changed(base, () => ({
      openings: openings.map((opening) => ({ ...opening, fields: opening.fields.toReversed() })),
    })),
  );
  add(
    "evidence: a blob that nothing names",
    base,
    "failed",
    "evidence_unreferenced",
    changed(base, () => ({ evidence: [{ type: "preprocessing", data: new Uint8Array([1]) }] })),
  );
  add(
    "evidence: under another type",
    base,
    "failed",
    "evidence_unreferenced",
    changed(base, ({ evidence }) => ({ evidence: (evidence ?? []).map((blob) => ({ ...blob, type: "policy" })) })),
  );

  const raw: [string, (bytes: Uint8Array) => Uint8Array, string][] = [
    ["empty", () => new Uint8Array(), "cbor_invalid"],
    ["a byte after the end", (bytes) => new Uint8Array([...bytes, 0]), "cbor_invalid"],
    ["the last byte missing", (bytes) => bytes.slice(0, -1), "cbor_invalid"],
    [
      "a map head in long form",
      (bytes) => new Uint8Array([0xb8, (bytes[0] ?? 0) & 31, ...bytes.slice(1)]),
      "cbor_invalid",
    ],
    ["an indefinite map", (bytes) => new Uint8Array([0xbf, ...bytes.slice(1), 0xff]), "cbor_invalid"],
    ["an integer", () => new Uint8Array([0]), "claims_invalid"],
    ["an empty map", () => new Uint8Array([0xa0]), "claims_invalid"],
    ["JSON", () => new Uint8Array([0x7b, 0x7d]), "cbor_invalid"],
  ];
  for (const [name, change, code] of raw) add(`bytes: ${name}`, base, "failed", code, { receipt: change(base.bytes) });
  return vectors;
}

/** The JSON that is published: bundles in base64, everything else as it is. */
export async function vectorsView(): Promise<JsonValue> {
  const vectors = await makeVectors();
  return {
    version: 1,
    vectors: vectors.map(({ name, receipt, trust, policy, now, expect }) => ({
      name,
      receipt: bytesToBase64(receipt),
      trust: trustView(trust),
      policy: (policy ?? WITH_NOTHING) as JsonValue,
      now,
      expect,
    })),
  };
}

function flip(bytes: Uint8Array, at: number): Uint8Array {
  const out = bytes.slice();
  out[at] = (out[at] ?? 0) ^ 1;
  return out;
}

// The entry in the log holds the original envelope; the mutant's own entry is checked after its signature.
function replaceStatement({ bundle }: MockReceipt, at: number, envelope: Uint8Array): Uint8Array {
  return encodeBundle({
    ...bundle,
    statements: bundle.statements.map((part, i) => (i === at ? { ...part, envelope } : part)),
  });
}

function lines(note: string): string[] {
  return note.split("\n");
}

function swapRoot(note: string): string {
  return lines(note)
    .with(2, bytesToBase64(new Uint8Array(32)))
    .join("\n");
}

function withoutLine(note: string, signature: number): string {
  return lines(note)
    .toSpliced(4 + signature, 1)
    .join("\n");
}

function corruptLine(note: string, signature: number): string {
  const all = lines(note);
  const line = all[4 + signature] ?? "";
  const at = line.length - 20;
  return all
    .with(4 + signature, line.slice(0, at) + (line.charAt(at) === "A" ? "B" : "A") + line.slice(at + 1))
    .join("\n");
}

async function expired(): Promise<Pick<Vector, "receipt" | "trust">> {
  const receipt = await makeReceipt({ mlDsa: false });
  const late = await makeParty({
    name: "late",
    role: "node",
    notBeforeMs: MOCK_TIME_MS - 2000,
    notAfterMs: MOCK_TIME_MS - 1000,
  });
  return reissued(receipt, late);
}

async function reissued(receipt: MockReceipt, node: MockReceipt["node"]): Promise<Pick<Vector, "receipt" | "trust">> {
  const { decodeClaims, parseStatement } = await import("@assay/receipts");
  const [execution] = receipt.bundle.statements;
  if (!execution) throw new Error("The mock receipt has no execution.");
  const { header } = parseStatement(nodeSuite, execution.envelope);
  const again = await node.state("execution", decodeClaims("execution", execution.claims), {
    subject: header.subject,
    issuedAtMs: MOCK_TIME_MS,
  });
  const { openings: _openings, evidence: _evidence, log: _log, checkpoints: _checkpoints, ...rest } = receipt.bundle;
  return {
    receipt: encodeBundle({
      ...rest,
      statements: [{ envelope: again.statement.envelope, claims: again.claims }],
      keysets: [{ envelope: node.keysetStatement.envelope, document: node.keyset.bytes }],
    }),
    trust: {
      ...receipt.trust,
      identities: [{ algorithm: "ed25519", publicKey: node.identity.publicKey, label: "test" }],
    },
  };
}

/** The base receipt's execution signed once together with four others; its service statement names it as before. */
async function batched(receipt: MockReceipt): Promise<MockReceipt> {
  const { decodeClaims, encodeEntry, parseStatement } = await import("@assay/receipts");
  const { makeLog } = await import("./mock-log.ts");
  const [execution, service] = receipt.bundle.statements;
  if (!execution || !service) throw new Error("The mock receipt has no two statements.");
  const signer = ed25519Signer(fixedSeed("alpha/execution"));
  const { header } = parseStatement(nodeSuite, execution.envelope);
  const unsigned = prepareStatement(
    nodeSuite,
    { ...header, algorithm: "ed25519-batch", kid: keyId(nodeSuite, signer.publicKey) },
    execution.claims,
  );
  const fillers = [1, 2, 3, 4].map((n) => ({ ...unsigned, digest: nodeSuite.sha256(new Uint8Array([n])) }));
  const signed = signBatch(
    nodeSuite,
    [...fillers.slice(0, 3), unsigned, ...fillers.slice(3)],
    signer.signSync ?? (() => new Uint8Array()),
  )[3];
  if (!signed) throw new Error("The batch is empty.");
  const serviceHeader = parseStatement(nodeSuite, service.envelope).header;
  const claims = encodeClaims("service", {
    ...decodeClaims("service", service.claims),
    executionDigest: unsigned.digest,
  });
  const gatewaySigner = ed25519Signer(fixedSeed("front/service"));
  const again = prepareStatement(nodeSuite, serviceHeader, claims);
  const sealed = sealStatement(again, await gatewaySigner.sign(again.toBeSigned));
  const log = makeLog({ origin: "assay.example/log", fillers: 9, witnesses: 2, mlDsa: false });
  const index = log.append(encodeEntry([signed.envelope, sealed.envelope]));
  const bundle: Bundle = {
    ...receipt.bundle,
    statements: [
      { envelope: signed.envelope, claims: execution.claims },
      { envelope: sealed.envelope, claims },
    ],
    log: [log.prove(index, 0)],
    checkpoints: [await log.note(Math.floor(MOCK_TIME_MS / 1000) + 1)],
  };
  return { ...receipt, bundle, bytes: encodeBundle(bundle) };
}
