import { canonicalJson, concatBytes, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import {
  PROFILE,
  commitFields,
  encodeBundle,
  encodeEntry,
  receiptSubject,
  tensorFields,
  transcriptRoot,
  transcriptSalt,
} from "@assay/receipts";
import type {
  Bundle,
  BundledStatement,
  ExecutionClaims,
  FieldValue,
  ServiceClaims,
  Statement,
  SupplementClaims,
  Trust,
} from "@assay/receipts";
import { makeLog } from "./mock-log.ts";
import { fixedSeed, makeParty } from "./parties.ts";
import type { Party } from "./parties.ts";

const suite = nodeSuite;
/** 2026-11-21T10:00:00Z, when all mock receipts are issued. */
export const MOCK_TIME_MS = 1_795_255_200_000;
const DAY_MS = 86_400_000;
const digest = (name: string): Uint8Array => suite.sha256(utf8ToBytes(name));
const text = (name: string, value: string): FieldValue => ({ name, value: utf8ToBytes(value) });
const json = (name: string, value: Parameters<typeof canonicalJson>[0]): FieldValue => ({
  name,
  value: canonicalJson(value),
});

/** The kinds of receipt the format must carry, by name. */
export const MOCK_KINDS = ["onnx", "paid-chat", "tee", "zkml", "zkml-pending", "step", "decision", "upstream"] as const;
export type MockKind = (typeof MOCK_KINDS)[number];

/** A mock receipt with everything it was made from, so that tests can break one part and rebuild the rest. */
export type MockReceipt = {
  readonly bundle: Bundle;
  readonly bytes: Uint8Array;
  readonly trust: Trust;
  readonly node: Party;
  readonly gateway: Party;
  readonly now: number;
  readonly masterSalt: Uint8Array;
};

export type MockOptions = {
  readonly kind?: MockKind;
  /** Replaces claims before signing. */
  readonly execution?: Partial<ExecutionClaims>;
  readonly service?: Partial<ServiceClaims>;
  /** Whether request and response are opened in the bundle. */
  readonly open?: boolean;
  readonly witnesses?: number;
  readonly mlDsa?: boolean;
  /** Names of the parties: other names have other keys. */
  readonly nodeName?: string;
  readonly gatewayName?: string;
  readonly origin?: string;
};

type Content = {
  readonly request: readonly FieldValue[];
  readonly response: readonly FieldValue[];
  readonly execution: Partial<ExecutionClaims> & Pick<ExecutionClaims, "kind" | "mode">;
  readonly service: Partial<ServiceClaims>;
  readonly supplements: readonly Pick<SupplementClaims, "kind" | "body" | "evidence">[];
  readonly evidence: readonly { readonly type: string; readonly data: Uint8Array }[];
};

/** Makes a whole receipt of `kind`, byte for byte the same each time. */
export async function makeReceipt(options: MockOptions = {}): Promise<MockReceipt> {
  const kind = options.kind ?? "onnx";
  const masterSalt = fixedSeed(`salt ${kind}`);
  const content = contentOf(kind, masterSalt);
  const window = { notBeforeMs: MOCK_TIME_MS - 3_600_000, notAfterMs: MOCK_TIME_MS + DAY_MS - 3_600_000 };
  const node = await makeParty({
    name: options.nodeName ?? "alpha",
    role: "node",
    ...window,
    from: { seq: 41, prev: digest("the node's statement 40") },
    ...(content.execution.evidenceDigest
      ? {
          changes: {
            models: [{ name: "acme/llm", modelDigest: digest("manifest llm") }],
            configDigest: digest("config"),
          },
        }
      : {}),
  });
  const gateway = await makeParty({ name: options.gatewayName ?? "front", role: "gateway", ...window });
  const receiptId = suite.sha256(utf8ToBytes(`receipt ${kind}`)).slice(0, 16);
  const request = commitFields(suite, masterSalt, "request", content.request);
  const response = commitFields(suite, masterSalt, "response", content.response);
  const about = { subject: receiptSubject(receiptId), issuedAtMs: MOCK_TIME_MS };
  const execution = await node.state(
    "execution",
    {
      profile: PROFILE.execution,
      receiptId,
      requestRoot: request.root,
      responseRoot: response.root,
      requestFields: request.count,
      responseFields: response.count,
      issuedAtMs: MOCK_TIME_MS,
      finishReason: "stop",
      ...content.execution,
      ...options.execution,
    },
    about,
  );
  const service = await gateway.state(
    "service",
    {
      profile: PROFILE.service,
      receiptId,
      executionDigest: execution.statement.digest,
      issuedAtMs: MOCK_TIME_MS + 3,
      retention: "none",
      ...content.service,
      ...options.service,
    },
    { ...about, issuedAtMs: MOCK_TIME_MS + 3 },
  );
  const supplements: { statement: Statement; claims: Uint8Array }[] = [];
  for (const [i, supplement] of content.supplements.entries()) {
    const issuedAtMs = MOCK_TIME_MS + 60_000 * (i + 1);
    supplements.push(
      await gateway.state(
        "supplement",
        {
          profile: PROFILE.supplement,
          supplementId: suite.sha256(utf8ToBytes(`supplement ${kind} ${i}`)).slice(0, 16),
          refersTo: execution.statement.digest,
          issuedAtMs,
          ...supplement,
        },
        { ...about, issuedAtMs },
      ),
    );
  }
  const log = makeLog({
    origin: options.origin ?? "assay.example/log",
    fillers: 700,
    witnesses: options.witnesses ?? 2,
    ...(options.mlDsa === undefined ? {} : { mlDsa: options.mlDsa }),
  });
  const indexes = [
    log.append(encodeEntry([execution.statement.envelope, service.statement.envelope])),
    ...supplements.map(({ statement }) => log.append(encodeEntry([statement.envelope]))),
  ];
  const statements: BundledStatement[] = [execution, service, ...supplements].map(({ statement, claims }) => ({
    envelope: statement.envelope,
    claims,
  }));
  const opened = (side: "request" | "response", fields: readonly FieldValue[]) => ({
    side,
    salt: masterSalt,
    fields: fields.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  });
  const bundle: Bundle = {
    profile: PROFILE.bundle,
    statements,
    keysets: [node, gateway].map(({ keyset, keysetStatement }) => ({
      envelope: keysetStatement.envelope,
      document: keyset.bytes,
    })),
    log: indexes.map((index) => log.prove(index, 0)),
    checkpoints: [await log.note(Math.floor(MOCK_TIME_MS / 1000) + 600)],
    ...(content.evidence.length === 0 ? {} : { evidence: content.evidence }),
    ...(options.open === false
      ? {}
      : { openings: [opened("request", content.request), opened("response", content.response)] }),
  };
  return {
    bundle,
    bytes: encodeBundle(bundle),
    trust: {
      identities: [node, gateway].map(({ identity, subject }) => ({
        algorithm: identity.algorithm,
        publicKey: identity.publicKey,
        subject,
        label: "test",
      })),
      keysets: [],
      logs: [log.trust],
      revoked: [],
      roots: [],
      chains: [],
    },
    node,
    gateway,
    now: MOCK_TIME_MS + DAY_MS,
    masterSalt,
  };
}

const model = (name: string, check: "hashed-at-load" | "measured" = "hashed-at-load") => ({
  modelName: `acme/${name}`,
  modelVersion: "3",
  modelDigest: digest(`manifest ${name}`),
  modelDigestScheme: "sha256-manifest" as const,
  modelDigestCheck: check,
});

function contentOf(kind: MockKind, salt: Uint8Array): Content {
  switch (kind) {
    case "onnx":
      return onnx();
    case "paid-chat":
      return paidChat(salt);
    case "tee":
      return tee(salt);
    case "zkml":
      return zkml(true);
    case "zkml-pending":
      return zkml(false);
    case "step":
      return step();
    case "decision":
      return decision();
    case "upstream":
      return upstream();
  }
}

function onnx(): Content {
  const preprocessing = canonicalJson({ version: 1, input: "image", steps: [{ op: "gray" }] });
  return {
    request: [
      text("model", "acme/digits"),
      ...tensorFields("input", { name: "image", datatype: "FP32", shape: [1, 4], data: new Uint8Array(16).fill(1) }),
    ],
    response: tensorFields("output", {
      name: "label",
      datatype: "INT64",
      shape: [1],
      data: new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0]),
    }),
    execution: {
      kind: "onnx",
      mode: "vanilla",
      ...model("digits"),
      runtime: {
        profile: "portable",
        engine: "onnxruntime-web",
        engineVersion: "1.30.0",
        threads: 1,
        cpuClass: digest("cpu"),
      },
      parameters: { outputs: ["label"] },
      preprocessingDigest: suite.sha256(preprocessing),
      clientNonce: new Uint8Array(16).fill(9),
      principal: { caller: "ed25519:2f1a", authentication: "signature" },
      usage: { inputBytes: 16, outputBytes: 8 },
      engineUs: 412,
    },
    service: {
      route: {
        chosen: "urn:assay:node:alpha",
        objective: "latency",
        candidates: [{ node: "urn:assay:node:alpha", outcome: "chosen", score: 12 }],
      },
    },
    supplements: [],
    evidence: [{ type: "preprocessing", data: preprocessing }],
  };
}

function paidChat(salt: Uint8Array): Content {
  const frames = ["data: 4", "data: 2", "data: [DONE]"].map(utf8ToBytes);
  return {
    request: [
      json("messages", [{ role: "user", content: "What is 17 + 25?" }]),
      json("temperature", 0),
      text("model", "acme/llm"),
    ],
    response: [json("choices", [{ index: 0, message: { role: "assistant", content: "42" } }])],
    execution: {
      kind: "chat",
      mode: "vanilla",
      ...model("llm"),
      runtime: { profile: "llm", engine: "onnxruntime-node", engineVersion: "1.30.0" },
      parameters: { temperature: "0", maxTokens: 64, seed: 7 },
      transcript: { root: transcriptRoot(suite, transcriptSalt(suite, salt), frames), frames: frames.length },
      principal: {
        caller: "eip155:8453:0x00000000000000000000000000000000000000aa",
        authentication: "payment",
        delegator: "ed25519:77aa",
        delegationDigest: digest("delegation"),
      },
      usage: { inputTokens: 14, outputTokens: 2 },
      engineUs: 81_000,
    },
    service: {
      retention: "client-encrypted",
      price: { amountAtomic: "2000", asset: "eip155:8453/erc20:0xusdc", rateSource: "listing", unit: "1k-tokens" },
      payment: {
        payer: "eip155:8453:0x00000000000000000000000000000000000000aa",
        paymentId: "0x1234",
        scheme: "upto",
        network: "eip155:8453",
        amountAtomic: "32",
        asset: "eip155:8453/erc20:0xusdc",
        settlement: "batch",
      },
      assurance: { asked: "vanilla", given: "vanilla", reason: "value at risk below 10" },
      promises: { settleByMs: MOCK_TIME_MS + 3_600_000 },
    },
    supplements: [
      { kind: "settlement", body: { transaction: "0xabcd", chain: "eip155:8453", block: 123_456, amountAtomic: "32" } },
      { kind: "refund", body: { transaction: "0xdcba", amountAtomic: "1", reason: "rounding" } },
    ],
    evidence: [],
  };
}

function tee(salt: Uint8Array): Content {
  const evidence = concatBytes(utf8ToBytes("attestation document "), digest("document"));
  const chat = paidChat(salt);
  return {
    ...chat,
    execution: {
      ...chat.execution,
      ...model("llm", "measured"),
      mode: "tee",
      evidenceDigest: suite.sha256(evidence),
      measurements: {
        measurement_type: "nitro-pcr",
        pcr0: new Uint8Array(48).fill(1),
        pcr1: new Uint8Array(48).fill(2),
        pcr2: new Uint8Array(48).fill(3),
      },
      policyVersion: "policy-7",
      memoryPeakMb: 900,
      securityMode: "production",
    },
    service: { assurance: { asked: "tee", given: "tee" } },
    supplements: [],
    evidence: [{ type: "attestation", data: evidence }],
  };
}

function zkml(arrived: boolean): Content {
  const proof = utf8ToBytes("the bytes of a proof");
  const base = onnx();
  return {
    ...base,
    execution: {
      ...base.execution,
      mode: "zkml",
      proofStatementDigest: digest("proof statement"),
      runtime: { profile: "integer", engine: "assay-integer", engineVersion: "1" },
    },
    service: { promises: { proofByMs: MOCK_TIME_MS + 60_000 } },
    supplements: arrived
      ? [{ kind: "proof", body: { system: "assay-zk/1", sizeBytes: proof.length }, evidence: [suite.sha256(proof)] }]
      : [],
    evidence: [...base.evidence, ...(arrived ? [{ type: "proof", data: proof }] : [])],
  };
}

function step(): Content {
  return {
    request: [json("arguments", { city: "Bern" }), text("tool", "weather")],
    response: [json("result", { celsius: "11.5" })],
    execution: {
      kind: "step",
      mode: "vanilla",
      parents: [digest("receipt of step 1"), digest("receipt of step 2")],
      step: { runId: "run-2026-11-21-7", step: "look-up-weather", attempt: 2, workflowDigest: digest("workflow") },
      principal: { caller: "ed25519:agent", authentication: "signature", delegator: "ed25519:owner" },
    },
    service: {},
    supplements: [{ kind: "audit", body: { agreed: true, auditor: "urn:assay:node:beta" } }],
    evidence: [],
  };
}

function decision(): Content {
  const policy = utf8ToBytes("package assay\ndefault allow := false\n");
  return {
    request: [json("intent", { to: "0xbb", value: "1000000" })],
    response: [json("decision", { allow: true, obligations: [] })],
    execution: {
      kind: "decision",
      mode: "vanilla",
      runtime: { profile: "policy", engine: "assay-rego", engineVersion: "1" },
      parents: [digest("receipt of the score")],
    },
    service: { policy: { policyDigest: suite.sha256(policy), decisionDigest: digest("decision"), outcome: "allow" } },
    supplements: [],
    evidence: [{ type: "policy", data: policy }],
  };
}

function upstream(): Content {
  return {
    request: [json("messages", [{ role: "user", content: "Hello" }])],
    response: [json("choices", [{ index: 0, message: { role: "assistant", content: "Hi" } }])],
    execution: {
      kind: "chat",
      mode: "vanilla",
      modelName: "provider/large",
      upstream: { provider: "provider.example", modelReported: "large-2026-10", tlsSpkiSha256: digest("spki") },
      finishReason: "incomplete",
    },
    service: { retention: "server-encrypted" },
    supplements: [{ kind: "revocation", body: { reason: "key lost" } }],
    evidence: [],
  };
}
