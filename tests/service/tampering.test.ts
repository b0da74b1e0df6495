import { beforeAll, describe, expect, test } from "vitest";
import { equalBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { CheckModules, CheckName, Verdict } from "@assay/receipts";
import { MOCK_KINDS, makeReceipt } from "@assay/testkit";
import type { MockReceipt } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import type { Verifier } from "@assay/verifier";
import { everyRegion, ownersOf, regionsOf, rewrite } from "./bundle-regions.ts";
import type { Region } from "./bundle-regions.ts";

/** Which row must report a change of a region. The first pattern that fits decides; frames are structure. */
const REPORTED_BY: readonly (readonly [RegExp, readonly CheckName[]])[] = [
  [/#$/, ["format"]],
  [/^profile$/, ["format"]],
  // A kid, issuer or digest that is another still parses; the log holds the statement as it was.
  [/^statements\[\d+\]\.envelope\.protected$/, ["format", "signature", "log"]],
  [/^statements\[\d+\]\.envelope\.unprotected$/, ["format"]],
  [/^statements\[\d+\]\.envelope\.(payload|signature)$/, ["format", "signature"]],
  [/^statements\[\d+\]\.envelope$/, ["format"]],
  [/^statements\[\d+\]\.claims$/, ["signature"]],
  [/^statements(\[\d+\])?$/, ["format", "signature", "log"]],
  [/^keysets\[\d+\]\.envelope\.(protected|payload|signature)$/, ["format", "keyset"]],
  [/^keysets\[\d+\]\.envelope(\.unprotected)?$/, ["format"]],
  [/^keysets\[\d+\]\.document$/, ["keyset"]],
  [/^keysets(\[\d+\])?$/, ["format", "signature", "keyset"]],
  [/^(log|checkpoints)\b/, ["format", "log"]],
  [/^(evidence|openings|fields)\b/, ["format", "commitments"]],
];

const passes = () => Promise.resolve({ status: "pass" as const, code: "ok", message: "Checked elsewhere.", facts: {} });
const checks: Omit<CheckModules, "log"> = { attestation: passes, proof: passes };
/** Without the log's ML-DSA-44 line, whose bytes have a test of their own: each costs a verification in JavaScript. */
const KINDS = MOCK_KINDS.filter((kind) => kind !== "zkml-pending");

const receipts = new Map<string, MockReceipt>();
beforeAll(async () => {
  for (const kind of KINDS) receipts.set(kind, await makeReceipt({ kind, mlDsa: false }));
});

function receiptOf(kind: string): { readonly receipt: MockReceipt; readonly verify: Verifier } {
  const receipt = receipts.get(kind);
  if (!receipt) throw new Error(`There is no receipt of kind ${kind}.`);
  return { receipt, verify: createVerifier({ trust: receipt.trust, suite: nodeSuite, checks }) };
}

function reportedBy(verdict: Verdict): CheckName | undefined {
  return (
    verdict.checks.find(({ status }) => status === "fail") ??
    verdict.checks.find(({ status, code }) => status !== "pass" && code === verdict.code)
  )?.check;
}

/** What is wrong with how a mutant was judged, or `undefined`. */
function fault(path: string, how: string, verdict: Verdict): string | undefined {
  if (verdict.status === "verified") return `${path} ${how}: verified`;
  const expected = REPORTED_BY.find(([pattern]) => pattern.test(path))?.[1];
  if (!expected) return `${path}: no line of the table fits`;
  const found = reportedBy(verdict);
  return found && expected.includes(found)
    ? undefined
    : `${path} ${how}: ${verdict.code} reported by ${found}, not by ${expected.join(" or ")}`;
}

describe.each(KINDS)("a %s receipt", (kind) => {
  test("is verified as it is, and with no byte of it changed", async () => {
    const { receipt, verify } = receiptOf(kind);
    const { bytes, now } = receipt;
    expect((await verify(bytes, now)).status).toBe("verified");
    const owners = ownersOf(regionsOf(bytes), bytes.length);
    expect(owners.every((owner) => owner !== undefined)).toBe(true);
    const faults: string[] = [];
    const mutated = new Uint8Array(bytes.length);
    let flipped = 0;
    for (const [at, owner] of owners.entries()) {
      mutated.set(bytes);
      mutated[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      const found = fault(owner, `bit ${at % 8} of byte ${at}`, await verify(mutated, now));
      if (found !== undefined) faults.push(found);
      flipped++;
    }
    expect(faults).toEqual([]);
    expect(flipped).toBe(bytes.length);
  });

  test("is not verified with a part cut, lengthened, zeroed, doubled, emptied or taken from another", async () => {
    const { receipt, verify } = receiptOf(kind);
    const { bytes, now } = receipt;
    const tree = regionsOf(bytes);
    const other = receiptOf(KINDS[(KINDS.indexOf(kind) + 1) % KINDS.length] ?? kind).receipt.bytes;
    const elsewhere = new Map(everyRegion(regionsOf(other)).map((region) => [region.path, region]));
    const faults: string[] = [];
    const kinds = new Set<string>();
    let mutants = 0;
    for (const region of everyRegion(tree)) {
      for (const [how, content] of replacements(bytes, region, other, elsewhere.get(region.path))) {
        const mutant = rewrite(bytes, tree, { at: region, content });
        if (equalBytes(mutant, bytes)) continue;
        const found = fault(region.path, how, await verify(mutant, now));
        if (found !== undefined) faults.push(found);
        kinds.add(how);
        mutants++;
      }
    }
    expect(faults).toEqual([]);
    expect([...kinds].toSorted()).toEqual(["cut", "doubled", "emptied", "foreign", "lengthened", "number", "zeroed"]);
    expect(mutants).toBeGreaterThan(4 * everyRegion(tree).filter(({ children }) => children.length === 0).length);
  });

  test("is not verified with a part left out or repeated, but for what its holder may keep to himself", async () => {
    const { receipt, verify } = receiptOf(kind);
    const { bytes, now } = receipt;
    const tree = regionsOf(bytes);
    const whole = (await verify(bytes, now)).checks.find(({ check }) => check === "commitments");
    const withheld: string[] = [];
    const repeated: string[] = [];
    for (const region of everyRegion(tree).slice(1)) {
      for (const how of ["remove", "twice"] as const) {
        const change =
          how === "remove" ? ({ at: region, remove: true } as const) : ({ at: region, twice: true } as const);
        const mutant = rewrite(bytes, tree, change);
        if (equalBytes(mutant, bytes)) continue;
        const verdict = await verify(mutant, now);
        if (verdict.status !== "verified") continue;
        (how === "remove" ? withheld : repeated).push(region.path);
        if (how === "twice") continue;
        const left = verdict.checks.find(({ check }) => check === "commitments");
        expect(Object.keys(left?.facts ?? {}).length, region.path).toBeLessThan(Object.keys(whole?.facts ?? {}).length);
      }
    }
    // Openings and evidence are disclosures: without one the receipt says less, and still nothing false.
    expect(withheld.filter((path) => !/^(openings|evidence)(\[\d+\])?$/.test(path))).toEqual([]);
    expect(withheld).toContain("openings");
    // A signed note may carry a key's line twice (C2SP signed-note); it is counted once.
    expect(repeated.filter((path) => !/^checkpoints\[0\]\.signature\d$/.test(path))).toEqual([]);
  });

  test("that is forged from the first to the last byte is inconclusive", async () => {
    const { receipt, verify } = receiptOf(kind);
    const names = { nodeName: "mallory", gatewayName: "mallet", origin: "mallory.example/log", mlDsa: false };
    const forged = await makeReceipt({ kind, ...names });
    expect(await verify(forged.bytes, forged.now)).toMatchObject({
      status: "inconclusive",
      code: "keyset_not_trusted",
    });
    // Nor does it help to call oneself by the names that are trusted.
    const impostor = await makeReceipt({ ...names, kind, nodeName: "alpha/", gatewayName: "front/" });
    expect((await verify(impostor.bytes, receipt.now)).status).toBe("inconclusive");
  });
});

/** Contents to put in place of a region's own; containers are only exchanged whole. */
function replacements(
  bytes: Uint8Array,
  region: Region,
  other: Uint8Array,
  twin: Region | undefined,
): [string, Uint8Array][] {
  if (region.kind === "other") {
    const numbers = [[0x00], [0x01], [0x17], [0x20], [0x19, 0x01, 0x00], [0x1a, 0x7f, 0xff, 0xff, 0xff], [0xf6]];
    return numbers.map((number) => ["number", new Uint8Array(number)]);
  }
  if (region.children.length > 0 || region.kind === "map" || region.kind === "array") return [];
  const content = bytes.subarray(region.content, region.end);
  const half = content.subarray(0, Math.floor(content.length / 2));
  const list: [string, Uint8Array][] = [
    ["cut", content.subarray(0, -1)],
    ["cut", content.subarray(1)],
    ["cut", half],
    ["emptied", new Uint8Array()],
    ["lengthened", Uint8Array.of(...content, 0)],
    ["lengthened", Uint8Array.of(0, ...content)],
    ["doubled", Uint8Array.of(...content, ...content)],
    ["zeroed", new Uint8Array(content.length)],
  ];
  if (twin?.kind === region.kind) list.push(["foreign", other.slice(twin.content, twin.end)]);
  // A line doubled or foreign is another test's: notes may repeat a line.
  return region.kind === "line" && !region.path.endsWith(".body") ? list.filter(([how]) => how !== "doubled") : list;
}

test("the post-quantum line of a checkpoint is as brittle as the others", async () => {
  const { bytes, trust, now } = await makeReceipt({ kind: "step" });
  const verify = createVerifier({ trust, suite: nodeSuite });
  const lines = everyRegion(regionsOf(bytes)).filter(({ kind }) => kind === "line");
  const longest = lines.toSorted((a, b) => b.end - b.start - (a.end - a.start))[0];
  if (!longest) throw new Error("The checkpoint has no lines.");
  expect(longest.end - longest.start).toBeGreaterThan(3000);
  const mutant = bytes.slice();
  for (let at = longest.start; at < longest.end; at += 11) {
    mutant.set(bytes);
    mutant[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    const verdict = await verify(mutant, now);
    expect(fault(longest.path, `byte ${at}`, verdict)).toBeUndefined();
  }
});
