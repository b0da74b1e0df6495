import { ed25519 } from "@noble/curves/ed25519.js";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesToBase64, bytesToHex, CborTag, decodeCbor, encodeCbor, utf8ToBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { nobleSuite as suite } from "@assay/core/noble";
import { formatCheckpoint, parseCheckpoint } from "./checkpoint.ts";
import { encodeCoseReceipt, MAX_COSE_RECEIPT_BYTES, verifyCoseReceipt } from "./cose-receipt.ts";
import { leafHash, nodeHash } from "./leaf.ts";
import { judgeCheckpoint } from "./monitor.ts";
import { formatNote, MAX_NOTE_CHARS, MAX_NOTE_LINE_CHARS, MAX_NOTE_SIGNATURES, parseNote } from "./note.ts";
import { formatVkey, noteKey, parseVkey } from "./note-key.ts";
import {
  MAX_POLICY_BYTES,
  MAX_POLICY_ITEMS,
  parsePolicy,
  policyTrust,
  quorumReached,
  satisfiesQuorum,
} from "./policy.ts";
import { consistencyProof, inclusionProof } from "./proof.ts";
import {
  checkpointSigner,
  logSigners,
  mergeCosignatures,
  openCheckpoint,
  signCheckpoint,
  signedMessage,
} from "./signed-checkpoint.ts";
import type { CheckpointSigner } from "./signed-checkpoint.ts";
import { formatTlogProof, MAX_TLOG_PROOF_CHARS, parseTlogProof, verifyTlogProof } from "./tlog-proof.ts";
import { createCompactTree, emptyRoot } from "./tree.ts";
import type { HashReader } from "./tree.ts";
import { decideAddCheckpoint, formatAddCheckpoint, MAX_ADD_CHECKPOINT_CHARS, parseAddCheckpoint } from "./witness.ts";
import type { WitnessState } from "./witness.ts";

const ORIGIN = "log.example/test";
const ed = (seed: number): Signer => {
  const key = new Uint8Array(32).fill(seed);
  return {
    algorithm: "ed25519",
    publicKey: ed25519.getPublicKey(key),
    sign: (message) => Promise.resolve(ed25519.sign(message, key)),
  };
};
const ml = (seed: number): Signer => {
  const { publicKey, secretKey } = ml_dsa44.keygen(new Uint8Array(32).fill(seed));
  return { algorithm: "ml-dsa-44", publicKey, sign: (message) => Promise.resolve(ml_dsa44.sign(message, secretKey)) };
};
const [logEd, logMl, w1Signer, w2Signer] = [ed(1), ml(2), ed(3), ml(4)];
const signers = logSigners(ORIGIN, { ed25519: logEd, mlDsa44: logMl }, suite);
const logs = signers.map((one) => one.key);
const w1 = checkpointSigner("witness.example/one", "cosignature-ed25519", w1Signer, suite);
const w2 = checkpointSigner("witness.example/two", "cosignature-ml-dsa-44", w2Signer, suite);
const trust = { logs, witnesses: [w1.key, w2.key] };

// A small tree with its interior nodes kept, to prove from.
function tree(n: number, prefix = "entry") {
  const nodes = new Map<string, Uint8Array>();
  const roots = [emptyRoot(suite)];
  const compact = createCompactTree(suite);
  for (let i = 0; i < n; i++) {
    compact.append(leafHash(utf8ToBytes(`${prefix} ${i}`), suite), (l, k, hash) => nodes.set(`${l}/${k}`, hash));
    roots.push(compact.root());
  }
  const read: HashReader = (wanted) =>
    Promise.resolve(wanted.map(({ level, index }) => nodes.get(`${level}/${index}`)!));
  return { roots, read, head: (size: number) => ({ origin: ORIGIN, size, root: roots.at(size)! }) };
}
const T = tree(12);
const sign = (size: number, by: readonly CheckpointSigner[] = signers, of = T): Promise<string> =>
  signCheckpoint(of.head(size), by, 1_700_000_000);
const codeOf = (run: () => unknown): string => {
  try {
    run();
    return "accepted";
  } catch (error) {
    return (error as { code: string }).code;
  }
};
// Flips one bit in the signature of line `n` of a note.
const spoil = (note: string, n: number): string => {
  const parsed = parseNote(note);
  const signatures = parsed.signatures.map((line, i) =>
    i === n ? { ...line, signature: line.signature.map((byte, k) => (k === 20 ? byte ^ 1 : byte)) } : line,
  );
  return formatNote({ text: parsed.text, signatures });
};

const linesOf = (whole: string): string => whole.slice(whole.lastIndexOf("\n\n") + 2);
const never = (): Promise<never> => Promise.reject(new Error("no proof was to be asked for"));
const prove = (from: number, to: number): Promise<Uint8Array[]> => consistencyProof(from, to, T.read, suite);
const wrap = (value: unknown): Uint8Array => encodeCbor(new CborTag(18, value as never));
const inclusion = (value: unknown): Map<number, unknown> =>
  new Map([[396, new Map([[-1, [encodeCbor(value as never)]]])]]);
const readPolicy = (text: string) => parsePolicy(utf8ToBytes(text), suite);
const facts = async () => ({ ...T.head(11), index: 5, path: await inclusionProof(5, 11, T.read, suite) });
const make = async (index = 5, size = 11, extra?: Uint8Array): Promise<string> =>
  formatTlogProof({
    index,
    path: await inclusionProof(index, size, T.read, suite),
    checkpoint: await sign(size, [...signers, w1]),
    ...(extra ? { extra } : {}),
  });
const decide = (body: string, state?: WitnessState, of = logs) =>
  decideAddCheckpoint(body, { logs: of, signers: [w1, w2], timestamp: 99, state: () => state }, suite);
const request = async (oldSize: number, size: number, by = signers): Promise<string> =>
  formatAddCheckpoint({
    oldSize,
    proof: await consistencyProof(oldSize, size, T.read, suite),
    note: await sign(size, by),
  });
const ENTRY_5 = leafHash(utf8ToBytes("entry 5"), suite);
const verdict = async (text: string, of = ENTRY_5): Promise<string> =>
  ((await verifyTlogProof(text, of, trust, suite)) as { code?: string }).code ?? "accepted";

const judge = async (seen: number | undefined, note: string, proof = never as typeof prove): Promise<string> =>
  (await judgeCheckpoint(seen === undefined ? undefined : T.head(seen), note, proof, trust, suite)).verdict;

describe("verifier keys", () => {
  const vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

  test("the worked example of signed-note verifies", async () => {
    const note =
      "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    const key = parseVkey(vkey, suite);
    const parsed = parseNote(note);
    const [line] = parsed.signatures;
    expect(formatVkey(key)).toBe(vkey);
    expect(line).toMatchObject({ name: key.name, id: key.id });
    expect(
      await suite.verify("ed25519", key.publicKey, utf8ToBytes(parsed.text), line?.signature ?? new Uint8Array()),
    ).toBe(true);
    expect(formatNote(parsed)).toBe(note);
    expect(parseNote(utf8ToBytes(note))).toEqual(parsed);
  });

  test("round trip of all three kinds", () => {
    for (const { key } of [...signers, w1, w2]) expect(parseVkey(formatVkey(key), suite)).toEqual(key);
  });

  test.each([
    ["no plus signs", "example.com/foo"],
    ["one plus sign", "example.com/foo+530d903a"],
    ["another id", vkey.replace("530d903a", "530d903b")],
    ["upper case in the id", vkey.replace("530d903a", "530D903A")],
    ["another name", vkey.replace("foo", "fop")],
    ["an empty name", vkey.replace("example.com/foo", "")],
    ["a space in the name", vkey.replace("/foo", " foo")],
    ["an ECDSA type", "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"],
    ["a short key", "example.com/foo+530d903a+AekyeRrm"],
    ["no key", "example.com/foo+530d903a+"],
    ["spaces around", ` ${vkey} `],
    ["a very long text", `${vkey}${"A".repeat(5000)}`],
  ])("refuses %s", (_, text) => {
    expect(codeOf(() => parseVkey(text, suite))).toBe("note_key_invalid");
  });

  test("refuses names and algorithms that cannot stand in a signature line", () => {
    for (const name of ["", "a b", "a+b", "a\u00a0b", "a\u0085b", "a\nb", "\ud800", "é".repeat(128)]) {
      expect([name, codeOf(() => noteKey(name, "note", logEd.publicKey, suite))]).toEqual([name, "note_key_invalid"]);
    }
    expect(codeOf(() => noteKey("x".repeat(255), "note", logEd.publicKey, suite))).toBe("accepted");
    expect(codeOf(() => checkpointSigner("x", "note", logMl, suite))).toBe("note_key_invalid");
  });
});

describe("notes", () => {
  const line = `— a ${bytesToBase64(new Uint8Array(8))}\n`;

  test.each([
    ["nothing", ""],
    ["no blank line", `text\n${line}`],
    ["no signature", "text\n\n"],
    ["no final newline", `text\n\n${line.trim()}`],
    ["a control character", `te\txt\n\n${line}`],
    ["a carriage return", `text\r\n\n${line}`],
    ["a lone surrogate", `te\ud800xt\n\n${line}`],
    ["a hyphen for the dash", `text\n\n- a AAAAAAAAAAA=\n`],
    ["no name", "text\n\n—  AAAAAAAAAAA=\n"],
    ["a plus in the name", "text\n\n— a+b AAAAAAAAAAA=\n"],
    ["a missing signature", "text\n\n— a \n"],
    ["a signature of four bytes", "text\n\n— a AAAAAA==\n"],
    ["bad base64", "text\n\n— a AAAAAAAAAAA\n"],
    ["words after the signature", "text\n\n— a AAAAAAAAAAA= x\n"],
    ["another line among the signatures", `text\n\n${line}hello\n`],
    ["too many signatures", `text\n\n${line.repeat(MAX_NOTE_SIGNATURES + 1)}`],
    ["a line too long in the text", `${"x".repeat(MAX_NOTE_LINE_CHARS + 1)}\n\n${line}`],
    ["a signature line too long", `text\n\n— a ${"A".repeat(MAX_NOTE_LINE_CHARS)}\n`],
    ["a note too long", `${"x\n".repeat(MAX_NOTE_CHARS / 2)}\n${line}`],
  ])("refuses %s", (_, note) => {
    expect(codeOf(() => parseNote(note))).toBe("note_malformed");
  });

  test("refuses malformed UTF-8, takes the limits themselves and splits at the last blank line", () => {
    expect(codeOf(() => parseNote(new Uint8Array([0xff, 10, 10])))).toBe("note_malformed");
    expect(parseNote(`text\n\n${line.repeat(MAX_NOTE_SIGNATURES)}`).signatures).toHaveLength(MAX_NOTE_SIGNATURES);
    expect(parseNote(`a\n\nb\n\n${line}`).text).toBe("a\n\nb\n");
    expect(codeOf(() => formatNote({ text: "no newline", signatures: [] }))).toBe("note_malformed");
  });

  test("any text: parsed and printed again it is the same, or it is refused with a code", () => {
    const piece = fc.constantFrom("— ", "a", " ", "\n", "\n\n", "AAAAAAAAAAA=", "+", "é", "\t", line, "\ud83d\ude00");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("");
        const code = codeOf(() => parseNote(text));
        const again = code === "accepted" ? formatNote(parseNote(text)) : text;
        expect([code === "accepted" ? "note_malformed" : code, again]).toEqual(["note_malformed", text]);
      }),
      { numRuns: 500 },
    );
  });
});

describe("checkpoints", () => {
  const root = bytesToBase64(new Uint8Array(32));

  test("round trip, with extension lines", () => {
    const text = `${ORIGIN}\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nextra line\n`;
    expect(formatCheckpoint(parseCheckpoint(text))).toBe(text);
    expect(parseCheckpoint(text)).toMatchObject({ origin: ORIGIN, size: 20852163, extensions: ["extra line"] });
  });

  test.each([
    ["two lines", `o\n1\n`],
    ["no final newline", `o\n1\n${root}`],
    ["an empty origin", `\n1\n${root}\n`],
    ["an origin too long", `${"o".repeat(256)}\n1\n${root}\n`],
    ["a leading zero", `o\n01\n${root}\n`],
    ["a sign", `o\n-1\n${root}\n`],
    ["a size of 2^53", `o\n9007199254740992\n${root}\n`],
    ["a short root", `o\n1\n${bytesToBase64(new Uint8Array(31))}\n`],
    ["a long root", `o\n1\n${bytesToBase64(new Uint8Array(33))}\n`],
    ["a root with loose bits", `o\n1\n${root.slice(0, -2)}B=\n`],
    ["an empty extension line", `o\n1\n${root}\n\nx\n`],
    ["too many extension lines", `o\n1\n${root}\n${"x\n".repeat(17)}`],
    ["far too many extension lines", `o\n1\n${root}\n${"x\n".repeat(1000)}`],
  ])("refuses %s", (_, text) => {
    expect(codeOf(() => parseCheckpoint(text))).toBe("checkpoint_malformed");
  });

  test("the log's two signatures and both kinds of cosignature verify, with their times", async () => {
    const opened = await openCheckpoint(await sign(7, [...signers, w1, w2]), trust, suite);
    expect(opened).toMatchObject({ ok: true, checkpoint: { origin: ORIGIN, size: 7 }, unknown: 0 });
    if (!opened.ok) return;
    expect(opened.signatures.map(({ key, role, timestamp }) => [key.name, key.kind, role, timestamp])).toEqual([
      [ORIGIN, "note", "log", undefined],
      [ORIGIN, "cosignature-ml-dsa-44", "log", 1_700_000_000],
      ["witness.example/one", "cosignature-ed25519", "witness", 1_700_000_000],
      ["witness.example/two", "cosignature-ml-dsa-44", "witness", 1_700_000_000],
    ]);
  });

  test("what is signed, byte for byte", () => {
    const checkpoint = { origin: "o", size: 258, root: new Uint8Array(32).fill(9), extensions: [] };
    const text = formatCheckpoint(checkpoint);
    expect(signedMessage(logs.at(0)!, checkpoint, text, 5)).toEqual(utf8ToBytes(text));
    expect(signedMessage(w1.key, checkpoint, text, 5)).toEqual(utf8ToBytes(`cosignature/v1\ntime 5\n${text}`));
    expect(bytesToHex(signedMessage({ ...w2.key, name: "w" }, checkpoint, text, 5))).toBe(
      ["737562747265652f76310a00", "0177", "0000000000000005", "016f", "0000000000000000", "0000000000000102"].join(
        "",
      ) + "09".repeat(32),
    );
  });

  test("a spoiled signature of a known key refuses the note, whichever it is", async () => {
    const note = await sign(7, [...signers, w1, w2]);
    for (const n of [0, 1, 2, 3]) {
      expect(await openCheckpoint(spoil(note, n), trust, suite)).toMatchObject({
        ok: false,
        code: "signature_invalid",
      });
    }
  });

  test("unknown keys are counted and say nothing", async () => {
    const note = await sign(7, [...signers, w1, w2]);
    expect(await openCheckpoint(spoil(note, 3), { logs, witnesses: [w1.key] }, suite)).toMatchObject({
      ok: true,
      unknown: 1,
    });
    expect(await openCheckpoint(note, { logs }, suite)).toMatchObject({ ok: true, unknown: 2 });
    // The same name with another id, and the same id with another name, are unknown too.
    const strangers = [
      { ...w1.key, id: w1.key.id ^ 1 },
      { ...w1.key, name: "witness.example/other" },
    ];
    expect(await openCheckpoint(note, { logs, witnesses: strangers }, suite)).toMatchObject({ ok: true, unknown: 2 });
  });

  test("refuses without a log's signature, of another origin, and of a changed text", async () => {
    expect(await openCheckpoint(await sign(7, [w1]), trust, suite)).toMatchObject({ ok: false, code: "log_unsigned" });
    const other = await signCheckpoint({ ...T.head(7), origin: "log.example/other" }, signers, 1);
    expect(await openCheckpoint(other, trust, suite)).toMatchObject({ ok: false, code: "origin_untrusted" });
    expect(await openCheckpoint(await sign(7), { logs: [] }, suite)).toMatchObject({ code: "origin_untrusted" });
    const changed = (await sign(7)).replace(`${ORIGIN}\n7\n`, `${ORIGIN}\n8\n`);
    expect(await openCheckpoint(changed, trust, suite)).toMatchObject({ ok: false, code: "signature_invalid" });
    expect(await openCheckpoint(changed, { logs: [logs.at(1)!] }, suite)).toMatchObject({ code: "signature_invalid" });
    expect(await openCheckpoint("", trust, suite)).toMatchObject({ ok: false, code: "note_malformed" });
    const text = formatNote({ text: "o\n1\n", signatures: parseNote(await sign(7)).signatures });
    expect(await openCheckpoint(text, trust, suite)).toMatchObject({ ok: false, code: "checkpoint_malformed" });
  });

  test("a plain note key is no witness, and a witness's key is no log", async () => {
    const plain = checkpointSigner("witness.example/plain", "note", ed(9), suite);
    const note = await sign(7, [...signers, plain]);
    expect(await openCheckpoint(note, { logs, witnesses: [plain.key] }, suite)).toMatchObject({ ok: true, unknown: 1 });
    expect(await openCheckpoint(await sign(7, [w1]), { logs: [w1.key] }, suite)).toMatchObject({
      code: "origin_untrusted",
    });
  });

  test("signing is refused without signers, of impossible facts and times", async () => {
    await expect(signCheckpoint(T.head(3), [], 1)).rejects.toMatchObject({ code: "checkpoint_unsigned" });
    await expect(signCheckpoint({ ...T.head(3), origin: "a\nb" }, signers, 1)).rejects.toMatchObject({
      code: "checkpoint_malformed",
    });
    await expect(signCheckpoint({ ...T.head(3), root: new Uint8Array(31) }, signers, 1)).rejects.toMatchObject({
      code: "checkpoint_malformed",
    });
    await expect(signCheckpoint(T.head(3), signers, 1.5)).rejects.toMatchObject({ code: "tlog_range" });
  });

  test("merging cosignatures takes the known, ignores the unknown and refuses the wrong", async () => {
    const note = await sign(7);
    const merged = await mergeCosignatures(note, linesOf(await sign(7, [w1, w2])), [w1.key], suite);
    expect(merged.added.map((one) => one.key.name)).toEqual(["witness.example/one"]);
    expect(await openCheckpoint(merged.note, trust, suite)).toMatchObject({ ok: true, unknown: 0 });
    const again = await mergeCosignatures(merged.note, linesOf(await sign(7, [w1])), [w1.key], suite);
    expect(again).toMatchObject({ note: merged.note, added: [] });
    const merge = (lines: string): Promise<unknown> => mergeCosignatures(note, lines, [w1.key], suite);
    await expect(merge(linesOf(await sign(8, [w1])))).rejects.toMatchObject({ code: "cosignature_invalid" });
    await expect(merge(linesOf(await signCheckpoint(T.head(7), [w1], 0)))).rejects.toMatchObject({
      code: "cosignature_invalid",
    });
    await expect(merge("<html>\n")).rejects.toMatchObject({ code: "note_malformed" });
    await expect(merge("")).rejects.toMatchObject({ code: "note_malformed" });
  });
});

describe("tlog-proof", () => {
  const leaf = leafHash(utf8ToBytes("entry 5"), suite);

  test("round trip and verification", async () => {
    const text = await make(5, 11, utf8ToBytes("hello"));
    expect(text.split("\n").slice(0, 3)).toEqual(["c2sp.org/tlog-proof@v1", "extra aGVsbG8=", "index 5"]);
    expect(formatTlogProof(parseTlogProof(text))).toBe(text);
    const verdict = await verifyTlogProof(text, leaf, trust, suite);
    expect(verdict).toMatchObject({
      ok: true,
      index: 5,
      opened: { checkpoint: { size: 11 } },
      extra: utf8ToBytes("hello"),
    });
    const alone = formatTlogProof({ index: 0, path: [], checkpoint: await sign(1) });
    expect(await verifyTlogProof(alone, leafHash(utf8ToBytes("entry 0"), suite), trust, suite)).toMatchObject({
      ok: true,
    });
  });

  test("refuses another leaf, index, path, checkpoint and signature", async () => {
    const text = await make();
    expect(await verdict(text, leafHash(utf8ToBytes("entry 6"), suite))).toBe("inclusion_invalid");
    expect(await verdict(text.replace("index 5", "index 4"))).toBe("inclusion_invalid");
    expect(await verdict(text.replace("index 5", "index 11"))).toBe("inclusion_invalid");
    const lines = text.split("\n");
    expect(await verdict([...lines.slice(0, 2), ...lines.slice(3)].join("\n"))).toBe("inclusion_invalid");
    expect(await verdict(text.replace(`${ORIGIN}\n11`, `${ORIGIN}\n12`))).toBe("signature_invalid");
    expect(await verdict(text.replace(/— log\.example\/test [^\n]*\n/g, ""))).toBe("log_unsigned");
    expect(await verdict(text.replace(ORIGIN, "log.example/fake"))).toBe("origin_untrusted");
    const short = text.slice(0, text.lastIndexOf("—"));
    expect(await verdict(short.slice(0, -1))).toBe("note_malformed");
  });

  test("refuses malformed texts", async () => {
    const text = await make();
    const path = text.split("\n").at(2)!;
    for (const changed of [
      "",
      text.replace("@v1", "@v2"),
      text.replace("index 5", "index 05"),
      text.replace("index 5", "index -5"),
      text.replace("index 5", "index 5 "),
      text.replace("index 5\n", ""),
      text.replace("index 5", "extra !\nindex 5"),
      text.replace("index 5", "index 5\nextra aGVsbG8="),
      text.replace(path, path.slice(4)),
      text.replace(path, `${path} `),
      text.replace(path, Array.from({ length: 64 }, () => path).join("\n")),
      text.replace("index 5", `extra ${"A".repeat(90_000)}\nindex 5`),
      text.slice(0, text.indexOf("\n\n")),
      `${text}${"x".repeat(MAX_TLOG_PROOF_CHARS)}`,
    ]) {
      expect(await verifyTlogProof(changed, leaf, trust, suite)).toMatchObject({
        ok: false,
        code: "tlog_proof_malformed",
      });
    }
    expect(codeOf(() => formatTlogProof({ index: -1, path: [], checkpoint: "" }))).toBe("tlog_range");
    expect(codeOf(() => formatTlogProof({ index: 0, path: [new Uint8Array(31)], checkpoint: "" }))).toBe(
      "tlog_proof_malformed",
    );
    expect(codeOf(() => formatTlogProof({ index: 0, path: [], checkpoint: "x" }))).toBe("note_malformed");
  });
});

describe("COSE receipts", () => {
  const leaf = leafHash(utf8ToBytes("entry 5"), suite);

  test("both algorithms verify, in RFC 9942's shape", async () => {
    for (const signer of [logEd, logMl]) {
      const receipt = await encodeCoseReceipt(await facts(), signer);
      expect(await verifyCoseReceipt(receipt, leaf, signer, suite)).toMatchObject({
        ok: true,
        root: T.roots[11],
        claimed: { size: 11, index: 5 },
      });
      const message = decodeCbor(receipt) as CborTag;
      expect(message.tag).toBe(18);
      const [head, unprotected, payload] = message.value as [Uint8Array, Map<number, Map<number, Uint8Array[]>>, null];
      expect(decodeCbor(head)).toEqual(
        new Map([
          [1, signer === logEd ? -8 : -48],
          [395, 1],
        ]),
      );
      expect(payload).toBeNull();
      const [size, index, path] = decodeCbor(unprotected.get(396)!.get(-1)!.at(0)!) as [number, number, Uint8Array[]];
      expect([size, index, path.length]).toEqual([11, 5, 4]);
    }
  });

  test("no changed byte leads to another root, and none but the unsigned position goes unnoticed", async () => {
    const receipt = await encodeCoseReceipt(await facts(), logEd);
    const unnoticed: unknown[] = [];
    for (let i = 0; i < receipt.length; i++) {
      const changed = receipt.map((byte, k) => (k === i ? byte ^ 1 : byte));
      const verdict = await verifyCoseReceipt(changed, leaf, logEd, suite);
      if (!verdict.ok) continue;
      expect(verdict.root).toEqual(T.roots[11]);
      unnoticed.push(verdict.claimed);
    }
    // Entry 5 has the same path in trees of 10 and of 11 entries, and RFC 9942 signs the root alone.
    expect(unnoticed).toEqual([{ size: 10, index: 5 }]);
  });

  test("refuses another leaf, key, algorithm, size and malformed structures", async () => {
    const proof = await facts();
    const receipt = await encodeCoseReceipt(proof, logEd);
    const code = async (bytes: Uint8Array, of = leaf, by = logEd): Promise<string> =>
      ((await verifyCoseReceipt(bytes, of, by, suite)) as { code?: string }).code ?? "accepted";
    expect(await code(receipt, leafHash(utf8ToBytes("entry 6"), suite))).toBe("signature_invalid");
    expect(await code(receipt, leaf, ed(8))).toBe("signature_invalid");
    expect(await code(receipt, leaf, logMl)).toBe("cose_receipt_malformed");
    expect(await code(await encodeCoseReceipt({ ...proof, path: proof.path.slice(1) }, logEd))).toBe(
      "inclusion_invalid",
    );
    const message = decodeCbor(receipt) as CborTag;
    const [head, unprotected, , signature] = message.value as [Uint8Array, Map<number, never>, null, Uint8Array];
    for (const bytes of [
      new Uint8Array(),
      receipt.subarray(1),
      encodeCbor(new CborTag(17, message.value)),
      wrap([head, unprotected, new Uint8Array(32), signature]),
      wrap([head, unprotected, null]),
      wrap([head, new Map(), null, signature]),
      wrap([head, new Map([...unprotected, [4, 1]]), null, signature]),
      wrap([head, new Map([[396, new Map([[-1, []]])]]), null, signature]),
      wrap([head, new Map([[396, new Map([[-2, [new Uint8Array()]]])]]), null, signature]),
      wrap([head, inclusion([11, 5]), null, signature]),
      wrap([head, inclusion([11, -5, proof.path]), null, signature]),
      wrap([head, inclusion([2n ** 60n, 5, proof.path]), null, signature]),
      wrap([head, inclusion([11, 5, ["text"]]), null, signature]),
      wrap([head, inclusion([11, 5, Array.from({ length: 64 }, () => new Uint8Array(32))]), null, signature]),
      wrap([encodeCbor(new Map([[1, -8]])), unprotected, null, signature]),
      wrap([head, unprotected, null, "text"]),
      new Uint8Array(MAX_COSE_RECEIPT_BYTES + 1),
    ]) {
      expect(await code(bytes)).toBe("cose_receipt_malformed");
    }
    const refused = { code: "cose_receipt_malformed" };
    await expect(encodeCoseReceipt({ ...proof, index: 11 }, logEd)).rejects.toMatchObject(refused);
    await expect(encodeCoseReceipt({ ...proof, root: new Uint8Array(31) }, logEd)).rejects.toMatchObject(refused);
  });
});

describe("policies", () => {
  const keys = Array.from({ length: 7 }, (_, i) =>
    checkpointSigner(`w${i}.example`, "cosignature-ed25519", ed(20 + i), suite),
  );
  const v = keys.map((one) => formatVkey(one.key));
  const log = formatVkey(logs.at(0)!);
  const example = `# two organisations
log ${log} https://log.example/

witness X1 ${v[0]}
witness X2\t${v[1]} https://x2.example/
  witness X3 ${v[2]}
group X-witnesses 2 X1 X2 X3
witness Y1 ${v[3]}
witness Y2 ${v[4]}
witness Y3 ${v[5]}
group Y-witnesses any Y1 Y2 Y3
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
`;

  test("the specification's example of two levels", () => {
    const policy = readPolicy(example);
    expect(policy.logs).toMatchObject([{ url: "https://log.example/" }]);
    expect(policy.witnesses.map((one) => one.url)).toEqual([
      undefined,
      "https://x2.example/",
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    const reached = (...names: string[]): boolean => quorumReached(policy, new Set(names));
    expect(reached("X1", "X3", "Y2")).toBe(true);
    expect(reached("X1", "X2", "X3", "Y1", "Y2", "Y3")).toBe(true);
    expect(reached("X1", "Y2")).toBe(false);
    expect(reached("X1", "X2", "X3")).toBe(false);
    expect(reached("Y1", "Y2", "Y3")).toBe(false);
    expect(reached("X-and-Y")).toBe(false);
    expect(reached()).toBe(false);
  });

  test("an opened checkpoint satisfies it through verified cosignatures only", async () => {
    const policy = readPolicy(
      `log ${log}\nwitness a ${formatVkey(w1.key)}\nwitness b ${formatVkey(w2.key)}\ngroup g all a b\nquorum g\n`,
    );
    const open = async (by: CheckpointSigner[]) => {
      const opened = await openCheckpoint(await sign(7, by), policyTrust(policy), suite);
      if (!opened.ok) throw new Error(opened.reason);
      return satisfiesQuorum(policy, opened);
    };
    expect(await open([...signers, w1, w2])).toEqual({ reached: true, cosigned: ["a", "b"] });
    expect(await open([...signers, w2])).toEqual({ reached: false, cosigned: ["b"] });
    expect(await open(signers)).toEqual({ reached: false, cosigned: [] });
    expect(quorumReached(readPolicy("quorum none\n"), new Set())).toBe(true);
  });

  test("k of n for every k, against counting", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }), fc.subarray([0, 1, 2, 3, 4, 5, 6]), (k, who) => {
        const policy = readPolicy(
          `${v.map((key, i) => `witness w${i} ${key}\n`).join("")}group g ${k} ${v.map((_, i) => `w${i}`).join(" ")}\nquorum g\n`,
        );
        expect(quorumReached(policy, new Set(who.map((i) => `w${i}`)))).toBe(who.length >= k);
      }),
      { numRuns: 60 },
    );
  });

  test.each([
    ["no quorum", `witness a ${v[0]}\n`],
    ["two quorums", "quorum none\nquorum none\n"],
    ["an unknown keyword", "quorum none\nmirror x\n"],
    ["no final newline", "quorum none"],
    ["a carriage return", "quorum none\r\n"],
    ["a delete character", "# \u007f\nquorum none\n"],
    ["an undefined quorum", "quorum a\n"],
    ["a quorum defined below", `quorum a\nwitness a ${v[0]}\n`],
    ["an undefined member", "group g any a\nquorum g\n"],
    ["itself as a member", "group g any g\nquorum g\n"],
    ["none as a member", "group g any none\nquorum g\n"],
    ["none as a name", `witness none ${v[0]}\nquorum none\n`],
    ["a name twice", `witness a ${v[0]}\nwitness a ${v[1]}\nquorum a\n`],
    ["a key twice", `witness a ${v[0]}\nwitness b ${v[0]}\nquorum a\n`],
    [
      "a key twice under other names",
      `witness a ${v[0]}\nwitness b ${formatVkey(noteKey("x", "cosignature-ed25519", keys.at(0)!.key.publicKey, suite))}\nquorum a\n`,
    ],
    ["a log twice", `log ${log}\nlog ${log}\nquorum none\n`],
    ["a member of two groups", `witness a ${v[0]}\ngroup g any a\ngroup h any a\nquorum h\n`],
    ["a member twice", `witness a ${v[0]}\ngroup g 2 a a\nquorum g\n`],
    ["a threshold of none", `witness a ${v[0]}\ngroup g 0 a\nquorum g\n`],
    ["a threshold above n", `witness a ${v[0]}\ngroup g 2 a\nquorum g\n`],
    ["a threshold with a zero before", `witness a ${v[0]}\ngroup g 01 a\nquorum g\n`],
    ["a group without members", "group g any\nquorum g\n"],
    ["a plain note key for a witness", `witness a ${log}\nquorum a\n`],
    ["a broken key", `witness a ${v[0]}x\nquorum a\n`],
    ["words after the url", `log ${log} https://a b\nquorum none\n`],
    ["two names for a quorum", `witness a ${v[0]}\nwitness b ${v[1]}\nquorum a b\n`],
    [
      "too many groups",
      `${v.map((key, i) => `witness w${i} ${key}\n`).join("")}group g0 any w0\n${Array.from({ length: MAX_POLICY_ITEMS }, (_, i) => `group g${i + 1} any g${i}\n`).join("")}quorum g0\n`,
    ],
    ["a file too long", `${"#".repeat(MAX_POLICY_BYTES)}\nquorum none\n`],
  ])("refuses %s", (_, text) => {
    expect(codeOf(() => readPolicy(text))).toBe("policy_malformed");
  });

  test("names are octets: a Kelvin sign is not a K", () => {
    expect(codeOf(() => readPolicy(`witness K ${v[0]}\nquorum \u212a\n`))).toBe("policy_malformed");
    expect(readPolicy(`witness \u212a ${v[0]}\nquorum \u212a\n`).quorum).toHaveLength(3);
  });
});

describe("witness", () => {
  test("cosigns a first, an equal and an extended checkpoint", async () => {
    for (const [oldSize, size] of [
      [0, 0],
      [0, 5],
      [5, 5],
      [5, 11],
      [8, 12],
    ] as const) {
      const state = oldSize === 0 ? undefined : T.head(oldSize);
      const body = await request(oldSize, size);
      expect(formatAddCheckpoint(parseAddCheckpoint(body))).toBe(body);
      const decision = await decide(body, state);
      expect(decision).toMatchObject({ status: 200, accepted: { state: { size } } });
      const merged = await mergeCosignatures(await sign(size), decision.body, [w1.key, w2.key], suite);
      expect(merged.added.map((one) => one.timestamp)).toEqual([99, 99]);
      // What it keeps carries the log's own signatures and its own, and no stranger's.
      expect(await openCheckpoint(decision.accepted!.note, trust, suite)).toMatchObject({ ok: true, unknown: 0 });
    }
  });

  test("drops strangers' signatures from what it keeps", async () => {
    const stranger = checkpointSigner("stranger.example", "note", ed(77), suite);
    const decision = await decide(await request(0, 5, [...signers, stranger]));
    expect(parseNote(decision.accepted!.note).signatures.map((one) => one.name)).toEqual([
      ORIGIN,
      ORIGIN,
      w1.key.name,
      w2.key.name,
    ]);
  });

  test("answers each fault with the status that the specification gives it", async () => {
    const status = async (body: string, state?: WitnessState, of = logs): Promise<number> => {
      const decision = await decide(body, state, of);
      expect(decision.accepted).toBeUndefined();
      return decision.status;
    };
    const good = await request(5, 11);
    const five = T.head(5);
    expect(await status(good, five, [])).toBe(404);
    expect(await status(await request(5, 11, [w1]), five)).toBe(403);
    const { note } = parseAddCheckpoint(good);
    expect(await status(good.replace(note, spoil(note, 1)), five)).toBe(403);
    expect(await decide(good, T.head(6))).toMatchObject({ status: 409, contentType: "text/x.tlog.size", body: "6\n" });
    expect(await decide(good)).toMatchObject({ status: 409, body: "0\n" });
    expect(await status(good.replace("old 5", "old 12"), T.head(12))).toBe(400);
    expect(await status(good, { size: 5, root: T.roots.at(6)! })).toBe(422);
    const fork = tree(12, "forged");
    expect(
      await status(
        formatAddCheckpoint({
          oldSize: 5,
          proof: await consistencyProof(5, 11, fork.read, suite),
          note: await sign(11, signers, fork),
        }),
        five,
      ),
    ).toBe(422);
    expect(await status(formatAddCheckpoint({ oldSize: 5, proof: [], note: await sign(5, signers, fork) }), five)).toBe(
      422,
    );
    expect(await status(formatAddCheckpoint({ oldSize: 5, proof: [five.root], note: await sign(5) }), five)).toBe(422);
    expect(await status(formatAddCheckpoint({ oldSize: 0, proof: [five.root], note: await sign(5) }))).toBe(422);
    const empty = await signCheckpoint({ ...T.head(0), root: five.root }, signers, 1);
    expect(await status(formatAddCheckpoint({ oldSize: 0, proof: [], note: empty }))).toBe(422);
  });

  test("refuses malformed bodies with 400", async () => {
    const good = await request(5, 11);
    const proofLine = good.split("\n").at(1)!;
    for (const body of [
      "",
      good.replace("old 5", "new 5"),
      good.replace("old 5", "old 05"),
      good.replace("old 5", "old  5"),
      good.replace(proofLine, "AAAA"),
      good.replace(proofLine, Array.from({ length: 64 }, () => proofLine).join("\n")),
      good.slice(0, good.indexOf("\n\n")),
      good.slice(0, -1),
      good.replace(`${ORIGIN}\n11\n`, `${ORIGIN}\n011\n`),
      `${good}${"x".repeat(MAX_ADD_CHECKPOINT_CHARS)}`,
    ]) {
      expect((await decide(body, T.head(5))).status).toBe(400);
    }
    expect(codeOf(() => formatAddCheckpoint({ oldSize: 1, proof: [new Uint8Array(31)], note: "" }))).toBe(
      "add_checkpoint_malformed",
    );
  });
});

describe("monitor", () => {
  test("each verdict", async () => {
    const fork = tree(12, "forged");
    expect(await judge(undefined, await sign(5))).toBe("first");
    expect(await judge(5, await sign(5))).toBe("unchanged");
    expect(await judge(5, await sign(9), prove)).toBe("consistent");
    expect(await judge(0, await sign(9), prove)).toBe("consistent");
    expect(await judge(9, await sign(5))).toBe("rewind");
    expect(await judge(5, await sign(5, signers, fork))).toBe("fork");
    expect(await judge(5, await sign(9, signers, fork), prove)).toBe("proof-invalid");
    expect(await judge(5, await sign(9), () => Promise.resolve([]))).toBe("proof-invalid");
    expect(await judge(5, spoil(await sign(9), 0))).toBe("bad-checkpoint");
    expect(await judge(5, "")).toBe("bad-checkpoint");
    const other = logSigners("log.example/other", { ed25519: logEd }, suite);
    const note = await signCheckpoint({ ...T.head(9), origin: "log.example/other" }, other, 1);
    const wide = { logs: [...logs, other.at(0)!.key] };
    expect((await judgeCheckpoint(T.head(5), note, never, wide, suite)).verdict).toBe("origin-changed");
  });
});

test("an interior node has its own domain", () => {
  const [a, b] = [T.roots.at(1)!, T.roots.at(2)!];
  expect(nodeHash(a, b, suite)).not.toEqual(leafHash(new Uint8Array([...a, ...b]), suite));
});
