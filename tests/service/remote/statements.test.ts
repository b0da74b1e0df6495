import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import { PROFILE, decodeEntry, encodeClaims, parseStatement, receiptSubject } from "@assay/receipts";
import type { ExecutionClaims, Issuer } from "@assay/receipts";
import type { SignedDraft } from "@assay/service-gateway";
import { createNodeLink } from "@assay/service-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeIssuer, startTestGateway, suite } from "./world.ts";
import type { TestGateway } from "./world.ts";

// What a gateway records of what others signed: only what an admitted node signed, about what the draft says, once.

const operator = ed25519Signer(randomSeed());
let directory = "";
let gateway: TestGateway;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-statements-"));
  gateway = await startTestGateway({ directory, operator });
});
afterEach(async () => {
  await gateway.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A node that joined, admitted or not; only its keys are of interest. */
async function joined(admitted = true, role: "node" | "gateway" = "node"): Promise<Issuer> {
  const identity = ed25519Signer(randomSeed());
  const issuer = await makeIssuer(role, identity, undefined, undefined);
  const link = createNodeLink(
    { gatewayUrl: gateway.url, role, url: "http://127.0.0.1:9", secret: new Uint8Array(32) },
    {
      identity,
      ...(admitted ? { operator } : {}),
      suite,
      fetch: fetch as never,
      now: Date.now,
      advertisement: () => ({ offers: [], securityModes: ["vanilla"] }),
      load: () => ({ running: 0, queued: 0, healthy: true }),
    },
  );
  await link.start(issuer);
  await link.close();
  return issuer;
}

let named = 0;
function signed(
  issuer: Issuer,
  options: {
    readonly claims?: Partial<ExecutionClaims>;
    readonly subject?: string;
    readonly draft?: Partial<SignedDraft>;
    readonly issuedAtMs?: number;
  } = {},
): SignedDraft {
  const receiptId = suite.sha256(new TextEncoder().encode(`statement ${named++}`)).slice(0, 16);
  const issuedAtMs = options.issuedAtMs ?? Date.now();
  const root = suite.sha256(receiptId);
  const claims = encodeClaims("execution", {
    profile: PROFILE.execution,
    receiptId,
    modelName: "demo/net",
    requestRoot: root,
    responseRoot: root,
    requestFields: 1,
    responseFields: 1,
    mode: "vanilla",
    kind: "chat",
    issuedAtMs,
    finishReason: "stop",
    ...options.claims,
  });
  const subject = options.subject ?? receiptSubject(receiptId);
  const [statement] = issuer.issue("execution", [{ claims, subject, issuedAtMs }]);
  return {
    receiptId,
    subject,
    issuedAtMs,
    claims,
    envelope: statement?.envelope ?? new Uint8Array(1),
    service: (executionDigest) => ({
      profile: PROFILE.service,
      receiptId,
      executionDigest,
      issuedAtMs: Date.now(),
      retention: "none",
    }),
    model: "demo/net",
    manifestDigest: null,
    mode: "vanilla",
    grantSha256: root,
    opening: new Uint8Array(),
    ...options.draft,
  };
}

test("one statement is recorded once, however often and however fast it comes", async () => {
  const issuer = await joined();
  const draft = signed(issuer);
  const before = gateway.log.size();
  const outcomes = await Promise.allSettled([1, 2, 3].map(() => gateway.recorder.recordSigned(draft)));
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  for (const outcome of outcomes)
    if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "node_statement_pending" });
  await expect(gateway.recorder.recordSigned(draft)).rejects.toMatchObject({ code: "node_statement_logged" });
  // A draft with an envelope goes the same way, whichever method it comes by.
  await expect(gateway.recorder.record(draft)).rejects.toMatchObject({ code: "node_statement_logged" });
  expect(gateway.log.size()).toBe(before + 1);
  const record = await gateway.log.read(before);
  const [execution, service] = decodeEntry(record?.entry ?? new Uint8Array()).map((one) => parseStatement(suite, one));
  expect(execution?.header.issuer).toBe(issuer.document.subject);
  expect(service?.header.issuer).toBe(gateway.gatewaySubject);
});

test("another statement at a place that is taken is refused: the log shows the first", async () => {
  const issuer = await joined();
  const head = issuer.head();
  await gateway.recorder.recordSigned(signed(issuer));
  issuer.rewind(head);
  await expect(gateway.recorder.recordSigned(signed(issuer))).rejects.toMatchObject({ code: "node_statement_logged" });
});

test.each<[string, (issuer: Issuer) => SignedDraft | Promise<SignedDraft>]>([
  ["cannot be read", (issuer) => ({ ...signed(issuer), envelope: new Uint8Array(10) })],
  ["is not about the claims that came with it", (issuer) => ({ ...signed(issuer), claims: signed(issuer).claims })],
  ["is about another receipt", (issuer) => ({ ...signed(issuer), receiptId: new Uint8Array(16) })],
  ["has another subject", (issuer) => signed(issuer, { subject: "urn:assay:receipt:00" })],
  ["is dated otherwise", (issuer) => ({ ...signed(issuer), issuedAtMs: 5 })],
  ["names another model", (issuer) => signed(issuer, { draft: { model: "demo/other" } })],
  ["names another version", (issuer) => signed(issuer, { draft: { manifestDigest: "00".repeat(32) } })],
  ["states another mode", (issuer) => signed(issuer, { draft: { mode: "tee" } })],
  ["is dated outside its keyset's time", (issuer) => signed(issuer, { issuedAtMs: Date.now() - 3_600_000 })],
  ["is under a keyset that is not in the log", async () => signed(await joined(false))],
  [
    "is under a keyset that is not in the log",
    async () => signed(await makeIssuer("node", ed25519Signer(randomSeed()), undefined, undefined)),
  ],
  [
    "has a signature that does not hold",
    (issuer) => {
      const draft = signed(issuer);
      const envelope = draft.envelope.slice();
      const last = envelope.length - 1;
      envelope[last] = (envelope[last] ?? 0) ^ 1;
      return { ...draft, envelope };
    },
  ],
  [
    "is of another kind",
    async () => {
      const draft = signed(await joined());
      const record = await gateway.log.read(gateway.log.size() - 1);
      const [envelope] = decodeEntry(record?.entry ?? new Uint8Array());
      return { ...draft, envelope: envelope ?? new Uint8Array() };
    },
  ],
])("a statement that %s is not recorded", async (why, make) => {
  const draft = await make(await joined());
  const before = gateway.log.size();
  const refusal = gateway.recorder.recordSigned(draft);
  await expect(refusal).rejects.toMatchObject({ code: "node_statement_invalid" });
  await expect(refusal).rejects.toThrow(why);
  expect(gateway.log.size()).toBe(before);
});
