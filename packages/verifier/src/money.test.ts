import { equalBytes, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { ANCHOR_TYPE, PROFILE, encodeBundle, receiptSubject, viewReceipt } from "@assay/receipts";
import type { Bundle, CheckModules, CheckRow, OpenMap, ReceiptView, Verdict } from "@assay/receipts";
import { MOCK_TIME_MS, makeReceipt } from "@assay/testkit";
import type { MockReceipt } from "@assay/testkit";
import { describe, expect, test } from "vitest";
import { createVerifier } from "./index.ts";

const hash = (name: string): Uint8Array => nodeSuite.sha256(utf8ToBytes(name));
const address = (byte: string): string => `0x${byte.repeat(20)}`;

const STATED_MS = MOCK_TIME_MS + 60_000;

const claim = {
  payer: address("aa"),
  paymentId: `0x${"12".repeat(32)}`,
  scheme: "exact",
  network: "eip155:31337",
  amountAtomic: "25",
  asset: address("bb"),
  settlement: "batch",
  payTo: address("cc"),
};
const body: OpenMap = {
  paymentId: claim.paymentId,
  payer: claim.payer,
  network: claim.network,
  asset: claim.asset,
  amountAtomic: claim.amountAtomic,
  payTo: claim.payTo,
  scheme: claim.scheme,
  transaction: `0x${"ab".repeat(32)}`,
  blockNumber: "7",
  contract: address("dd"),
};

const receipt = (isPaid = true): Promise<MockReceipt> => makeReceipt(isPaid ? { service: { payment: claim } } : {});

function viewOf(made: MockReceipt): ReceiptView {
  const taken = viewReceipt(nodeSuite, made.bytes);
  if ("fault" in taken) throw new Error(taken.fault.message);
  return taken.view;
}

async function judged(
  made: MockReceipt,
  changes: Partial<Bundle>,
  checks?: Omit<CheckModules, "log">,
): Promise<Verdict> {
  const verify = createVerifier({ trust: made.trust, suite: nodeSuite, ...(checks ? { checks } : {}) });
  return verify(encodeBundle({ ...made.bundle, ...changes }), made.now);
}

const row = (verdict: Verdict, name: CheckRow["check"]): CheckRow | undefined =>
  verdict.checks.find(({ check }) => check === name);

/** The receipt with settlements stated by its gateway, which no log holds. */
async function withSettlements(
  made: MockReceipt,
  settlements: readonly { readonly body: OpenMap; readonly refersTo?: Uint8Array }[],
): Promise<Partial<Bundle>> {
  const { execution, service } = viewOf(made);
  const stated: { envelope: Uint8Array; claims: Uint8Array }[] = [];
  for (const [i, one] of settlements.entries()) {
    const { statement, claims } = await made.gateway.state(
      "supplement",
      {
        profile: PROFILE.supplement,
        supplementId: hash(`settlement ${i}`).slice(0, 16),
        refersTo: one.refersTo ?? service?.statement.digest ?? hash(""),
        kind: "settlement",
        issuedAtMs: STATED_MS,
        body: one.body,
      },
      { subject: receiptSubject(execution.claims.receiptId), issuedAtMs: STATED_MS },
    );
    stated.push({ envelope: statement.envelope, claims });
  }
  return { statements: [...made.bundle.statements, ...stated] };
}

describe("a settlement is of the payment that the service statement names", () => {
  test("and then a chain is all that is missing", async () => {
    const made = await receipt();
    for (const bodies of [[body], [{ ...body, transaction: `0x${"cd".repeat(32)}` }, body], [{ something: "else" }]]) {
      const verdict = await judged(
        made,
        await withSettlements(
          made,
          bodies.map((one) => ({ body: one })),
        ),
      );
      expect(row(verdict, "payment")).toMatchObject({ status: "inconclusive", code: "payment_unchecked" });
      expect(verdict.residualTrust.join(" ")).toContain("no chain was asked");
    }
    const shouted = { ...body, payer: claim.payer.toUpperCase().replace("0X", "0x") };
    const verdict = await judged(made, await withSettlements(made, [{ body: shouted }]));
    expect(row(verdict, "payment")).toMatchObject({ code: "payment_unchecked" });
  });

  test.each([
    ["paymentId", `0x${"13".repeat(32)}`],
    ["payer", address("ab")],
    ["network", "eip155:8453"],
    ["asset", address("bc")],
    ["amountAtomic", "26"],
    ["payTo", address("cd")],
    ["scheme", "upto"],
    ["transaction", "0xabcd"],
    ["transaction", `0x${"AB".repeat(32)}`],
    ["blockNumber", "0x7"],
    ["contract", "0x"],
    ["amountAtomic", 25],
    ["payer", undefined],
    ["payTo", undefined],
    ["contract", undefined],
  ] as const)("and no other: %s %s", async (name, value) => {
    const made = await receipt();
    const { [name]: _old, ...rest } = body;
    const changed: OpenMap = value === undefined ? rest : { ...rest, [name]: value };
    // Whichever of several is untrue, and whether or not a chain would say that all is well.
    const pass = () => Promise.resolve({ status: "pass" as const, code: "payment_settled", message: "", facts: {} });
    for (const bodies of [[changed], [changed, body], [body, changed]]) {
      const bundle = await withSettlements(
        made,
        bodies.map((one) => ({ body: one })),
      );
      for (const checks of [undefined, { payment: pass }]) {
        const verdict = await judged(made, bundle, checks);
        expect([verdict.status, verdict.code]).toEqual(["failed", "settlement_mismatch"]);
      }
    }
  });

  test("and refers to the statement that names it", async () => {
    const made = await receipt();
    const { execution } = viewOf(made);
    const verdict = await judged(made, await withSettlements(made, [{ body, refersTo: execution.statement.digest }]));
    expect([verdict.status, verdict.code]).toEqual(["failed", "settlement_mismatch"]);
  });

  test("and one of nothing that was claimed is a contradiction too", async () => {
    const made = await receipt(false);
    const free = await judged(made, {});
    expect(row(free, "payment")).toMatchObject({ status: "absent", code: "no_payment" });
    const verdict = await judged(made, await withSettlements(made, [{ body }]));
    expect([verdict.status, verdict.code]).toEqual(["failed", "settlement_mismatch"]);
  });

  test("a chain's word is named as what it is", async () => {
    const made = await receipt();
    const said = (code: string, status: "pass" | "inconclusive", facts = {}) => ({
      payment: () => Promise.resolve({ status, code, message: "", facts }),
    });
    const trusted = async (checks: Omit<CheckModules, "log">): Promise<string> =>
      (await judged(made, {}, checks)).residualTrust.join("\n");
    expect(await trusted(said("payment_settled", "pass"))).toContain("answers carry no proof");
    expect(await trusted(said("payment_settled", "pass"))).not.toContain("that this charge is in the sum");
    expect(await trusted(said("payment_claimed", "pass"))).toContain("that this charge is in the sum");
    const own = said("payment_claimed", "pass", { voucher: "this payment's" });
    expect(await trusted(own)).not.toContain("that this charge is in the sum");
    expect(await trusted(said("payment_of_nothing", "pass"))).not.toContain("answers carry no proof");
    expect(await trusted(said("payment_unsettled", "inconclusive"))).toContain("did not show it");
  });
});

describe("an anchor is of this receipt", () => {
  async function anchored() {
    const made = await receipt();
    const { execution, service, bundle } = viewOf(made);
    const [, size, root] = bundle.checkpoints?.[0]?.split("\n") ?? [];
    const entry: OpenMap = {
      submitter: address("ee"),
      firstLeaf: 0,
      leafCount: 1,
      root: hash("root"),
      logSize: Number(size),
      logRoot: new Uint8Array(Buffer.from(root ?? "", "base64")),
      blob: hash("blob"),
      prev: new Uint8Array(32),
    };
    const leaf: OpenMap = {
      executionDigest: execution.statement.digest,
      serviceDigest: service?.statement.digest ?? hash(""),
      paymentId: new Uint8Array(32).fill(0x12),
      amountAtomic: "25",
      logIndex: bundle.log?.[0]?.index ?? 0,
    };
    const map: OpenMap = { type: ANCHOR_TYPE, network: claim.network, contract: address("ff"), entry, leaf, proof: [] };
    return { made, map, entry, leaf };
  }
  const code = async (made: MockReceipt, anchors: readonly OpenMap[]): Promise<string | undefined> =>
    row(await judged(made, { anchors }), "anchor")?.code;

  test("and then a chain is all that is missing", async () => {
    const { made, map, entry } = await anchored();
    const verdict = await judged(made, { anchors: [map] });
    expect(verdict.status).toBe("verified");
    expect(row(verdict, "anchor")).toMatchObject({ status: "inconclusive", code: "anchor_unchecked" });
    const complete = { ...map, signature: new Uint8Array(65), transaction: body["transaction"] ?? "", blockNumber: 7 };
    expect(await code(made, [complete])).toBe("anchor_unchecked");
    // Another size has another root.
    const later = { ...map, entry: { ...entry, logSize: Number(entry["logSize"]) + 1, logRoot: hash("later") } };
    expect(await code(made, [later])).toBe("anchor_unchecked");
  });

  test("of a free receipt it names no payment", async () => {
    const { map, leaf } = await anchored();
    const made = await receipt(false);
    const entry = { ...(map["entry"] as OpenMap), logSize: 1 };
    const { execution, service } = viewOf(made);
    const own = {
      ...leaf,
      executionDigest: execution.statement.digest,
      serviceDigest: service?.statement.digest ?? hash(""),
    };
    expect(await code(made, [{ ...map, entry, leaf: own }])).toBe("anchor_leaf_mismatch");
    const free = { ...own, paymentId: new Uint8Array(32), amountAtomic: "0" };
    expect(await code(made, [{ ...map, entry, leaf: free }])).toBe("anchor_unchecked");
  });

  test.each([
    ["executionDigest", hash("another")],
    ["serviceDigest", hash("another")],
    ["paymentId", hash("another")],
    ["amountAtomic", "26"],
    ["logIndex", 77],
  ] as const)("and of no other: %s", async (name, value) => {
    const { made, map, leaf } = await anchored();
    const bad = { ...map, leaf: { ...leaf, [name]: value } };
    const pass = () => Promise.resolve({ status: "pass" as const, code: "anchored", message: "", facts: {} });
    for (const anchors of [[bad], [map, bad], [{ ...map, type: "something/1" }, bad]]) {
      const verdict = await judged(made, { anchors }, { anchor: pass });
      expect([verdict.status, verdict.code]).toEqual(["failed", "anchor_leaf_mismatch"]);
    }
  });

  test("whichever log proof comes first in the bundle", async () => {
    const { made, map } = await anchored();
    const log = made.bundle.log ?? [];
    const paid = await makeReceipt({ kind: "paid-chat", service: { payment: claim } });
    const view = viewOf(paid);
    const { execution, service, bundle } = view;
    const place = bundle.log?.find(({ entry }) => includes(entry, execution.statement.envelope))?.index ?? 0;
    const leaf = {
      ...(map["leaf"] as OpenMap),
      executionDigest: execution.statement.digest,
      serviceDigest: service?.statement.digest ?? hash(""),
      logIndex: place,
    };
    const entry = { ...(map["entry"] as OpenMap), logSize: 1 };
    expect(log).toHaveLength(1);
    for (const order of [bundle.log ?? [], (bundle.log ?? []).toReversed()]) {
      const verdict = await judged(paid, { anchors: [{ ...map, entry, leaf }], log: order });
      expect([verdict.status, row(verdict, "anchor")?.code]).toEqual(["verified", "anchor_unchecked"]);
    }
  });

  test("and gives the log no second history", async () => {
    const { made, map, entry } = await anchored();
    const verdict = await judged(made, { anchors: [{ ...map, entry: { ...entry, logRoot: hash("other") } }] });
    expect([verdict.status, verdict.code]).toEqual(["failed", "anchor_log_conflict"]);
  });

  test("what is of another kind or form is unknown, and says nothing", async () => {
    const { made, map, entry, leaf } = await anchored();
    const odd: readonly OpenMap[] = [
      {},
      { ...map, type: "receipt-anchor/2" },
      { ...map, network: "solana:mainnet" },
      { ...map, network: "eip155:1234567890123456" },
      { ...map, contract: address("AB") },
      { ...map, entry: { ...entry, root: new Uint8Array(31) } },
      { ...map, entry: { ...entry, logSize: -1 } },
      { ...map, leaf: { ...leaf, amountAtomic: "025" } },
      { ...map, leaf: { ...leaf, amountAtomic: "9".repeat(78) } },
      { ...map, proof: Array<Uint8Array>(33).fill(hash("")) },
      { ...map, proof: "none" },
      { ...map, signature: new Uint8Array(64) },
      { ...map, transaction: "0x12" },
      { ...map, blockNumber: "7" },
    ];
    for (const one of odd) expect(await code(made, [map, one]), JSON.stringify(one)).toBe("anchor_unknown");
    expect(await code(made, [{ ...map, proof: Array<Uint8Array>(32).fill(hash("")) }])).toBe("anchor_unchecked");
  });
});

function includes(entry: Uint8Array, envelope: Uint8Array): boolean {
  for (let at = 0; at + envelope.length <= entry.length; at++)
    if (equalBytes(entry.subarray(at, at + envelope.length), envelope)) return true;
  return false;
}
