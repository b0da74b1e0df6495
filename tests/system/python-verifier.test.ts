import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assay, assayJson, makeHome, needed, root, runProgram, startGateway } from "./harness.ts";
import type { Home } from "./harness.ts";

type Verdict = { readonly status: string; readonly code: string };

const verifier = join(root, "sdk-python/assay_verify.py");
const EXIT_CODES: Readonly<Record<string, number>> = { verified: 0, failed: 10, inconclusive: 11 };

describe("receipts of a running gateway before both verifiers", () => {
  let python: string;
  let home: Home;
  let receipt: string;
  let trust: string;
  const file = (name: string): string => join(home.path, name);

  beforeAll(async () => {
    python = needed("ASSAY_SYSTEM_PYTHON");
    home = makeHome();
    const gateway = await startGateway(home);
    receipt = file("answer.receipt");
    trust = file("their-trust.json");
    try {
      const image = `image=@${join(root, "models/digits/samples/seven.png")}`;
      assayJson(home, "run", "demo/digits", "--input", image, "--nonce", "00112233445566778899aabb", "--save", receipt);
      writeFileSync(trust, assay(home, "trust", "export").stdout);
    } finally {
      await gateway.stop();
    }
  });
  afterAll(() => home.remove());

  function verdicts(path: string, trustPath: string, ...more: readonly string[]): { ours: Verdict; theirs: Verdict } {
    const options = [path, "--trust", trustPath, ...more, "--json"];
    const ours = assay(home, "verify", ...options);
    const theirs = runProgram(python, [verifier, ...options]);
    const read = (ran: typeof ours): Verdict => {
      const verdict = JSON.parse(ran.stdout) as Verdict;
      // The exit code is what scripts act on, so it has to say the same.
      expect(ran.code, ran.stderr).toBe(EXIT_CODES[verdict.status]);
      return verdict;
    };
    return { ours: read(ours), theirs: read(theirs) };
  }

  it("is verified by both", () => {
    const { ours, theirs } = verdicts(receipt, trust);
    expect(ours).toMatchObject({ status: "verified", code: "verified" });
    expect(theirs).toMatchObject({ status: "verified", code: "verified" });
  });

  it("is inconclusive to both when nothing is trusted", () => {
    const nothing = file("nothing.json");
    const empty = { version: 1, identities: [], keysets: [], logs: [], revoked: [], roots: [], chains: [] };
    writeFileSync(nothing, JSON.stringify(empty));
    const { ours, theirs } = verdicts(receipt, nothing);
    expect(ours.status).toBe("inconclusive");
    expect(theirs).toMatchObject({ status: ours.status, code: ours.code });
  });

  it("fails both when the signer was revoked", () => {
    const revoking = JSON.parse(readFileSync(trust, "utf8")) as {
      identities: { publicKey: string }[];
      revoked: unknown[];
    };
    for (const { publicKey } of revoking.identities) {
      const key = Buffer.from(publicKey, "base64").toString("hex");
      revoking.revoked.push({ key, sinceMs: 1_600_000_000_000, reason: "the key was copied" });
    }
    const path = file("revoking.json");
    writeFileSync(path, JSON.stringify(revoking));
    const { ours, theirs } = verdicts(receipt, path);
    expect(ours).toMatchObject({ status: "failed", code: "keyset_revoked" });
    expect(theirs).toMatchObject({ status: "failed", code: "keyset_revoked" });
  });

  it("is held to the nonce by both", () => {
    const wanted = file("wanted.json");
    writeFileSync(wanted, JSON.stringify({ clientNonce: "00112233445566778899aabb" }));
    expect(verdicts(receipt, trust, "--policy", wanted).theirs.status).toBe("verified");
    const other = file("other.json");
    writeFileSync(other, JSON.stringify({ clientNonce: "ff112233445566778899aabb" }));
    const { ours, theirs } = verdicts(receipt, trust, "--policy", other);
    expect(ours).toMatchObject({ status: "failed", code: "nonce_mismatch" });
    expect(theirs).toMatchObject({ status: "failed", code: "nonce_mismatch" });
  });

  it("never reads as verified to either with a byte changed, and both say the same", () => {
    const good = readFileSync(receipt);
    const changed = file("changed.receipt");
    // Spread over the whole file: the head, statements, keysets, the log's part and the openings.
    for (let part = 0; part < 12; part++) {
      const bytes = Uint8Array.from(good);
      const at = Math.floor(((part + 0.5) * bytes.length) / 12);
      bytes[at] = (bytes[at] ?? 0) ^ 0x01;
      writeFileSync(changed, bytes);
      const { ours, theirs } = verdicts(changed, trust);
      expect(ours.status, `byte ${at}`).not.toBe("verified");
      expect(theirs.status, `byte ${at}`).toBe(ours.status);
    }
  });
});
