import { describe, expect, test } from "vitest";
import { bytesToHex, hexToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { MOCK_KINDS, makeReceipt } from "@assay/testkit";
import { decodeClaims, encodeBundle, openField, receiptJson, receiptJsonOf, viewReceipt } from "./index.ts";
import type { ReceiptView } from "./index.ts";

type Json = Record<string, never>;
function viewOf(bytes: Uint8Array): ReceiptView {
  const taken = viewReceipt(nodeSuite, bytes);
  if ("fault" in taken) throw new Error(taken.fault.message);
  return taken.view;
}

describe("the JSON view", () => {
  test.each(MOCK_KINDS)("of %s holds every claim under its name, and is JSON", async (kind) => {
    const { bytes, bundle, masterSalt } = await makeReceipt({ kind, mlDsa: false });
    const json = receiptJsonOf(nodeSuite, bytes) as unknown as {
      statements: { kind: string; seq: number; claims: Json }[];
      keysets: { keyset: string; document: Json }[];
      log: unknown[];
    };
    expect(JSON.parse(JSON.stringify(json))).toEqual(json);
    expect(json.statements).toHaveLength(bundle.statements.length);
    const claims = decodeClaims("execution", bundle.statements[0]!.claims);
    expect(Object.keys(json.statements[0]!.claims).toSorted()).toEqual(Object.keys(claims).toSorted());
    expect(json.keysets).toHaveLength(2);
    expect(json.log).toHaveLength(bundle.log!.length);
    expect(JSON.stringify(json)).not.toContain(bytesToHex(masterSalt));
  });

  test("shows header facts, places in the log and openings in short", async () => {
    const { bytes, node } = await makeReceipt();
    const { view } = { view: viewOf(bytes) };
    expect(receiptJson(view)).toMatchObject({
      issuedAt: "2026-11-21T10:00:00.000Z",
      statements: [
        {
          kind: "execution",
          algorithm: "ed25519",
          issuer: "urn:assay:node:alpha",
          seq: 41,
          signedUnder: bytesToHex(node.keyset.digest),
          digest: bytesToHex(view.execution.statement.digest),
          claims: { modelName: "acme/digits", engineUs: 412, clientNonce: "09".repeat(16) },
        },
        { kind: "service", seq: 0, prev: null },
      ],
      log: [{ index: 700, checkpoint: 0 }],
      checkpoints: [
        {
          origin: "assay.example/log",
          size: "701",
          signers: ["assay.example/log", "assay.example/log", "witness0.example", "witness1.example"],
        },
      ],
      evidence: [{ type: "preprocessing" }],
      openings: [
        {
          side: "request",
          fields: 3,
          tensors: [{ name: "image", datatype: "FP32", shape: [1, 4], sizeBytes: 16 }],
          texts: [{ name: "model", text: "acme/digits" }],
        },
        { side: "response", tensors: [{ name: "label", datatype: "INT64", shape: [1], sizeBytes: 8 }], texts: [] },
      ],
    });
  });

  test("cuts long texts between code points and shows opened bytes that are no text in hexadecimal", async () => {
    const { bundle } = await makeReceipt({ kind: "onnx", mlDsa: false });
    const opening = bundle.openings![0]!;
    const long = { ...opening, fields: [{ name: "prompt", value: new TextEncoder().encode(`${"a".repeat(199)}😀b`) }] };
    const field = openField(nodeSuite, opening, "input/image/data");
    const raw = { ...field, value: new Uint8Array(100).fill(0xff) };
    const json = receiptJson(viewOf(encodeBundle({ ...bundle, openings: [long], fields: [raw] }))) as unknown as {
      openings: { texts: { text: string }[] }[];
      fields: unknown[];
    };
    expect(json.openings[0]!.texts[0]!.text).toBe(`${"a".repeat(199)}… (202 characters)`);
    expect(json.fields).toEqual([
      { side: "request", name: "input/image/data", index: field.index, sizeBytes: 100, begins: "ff".repeat(32) },
    ]);
  });

  test("tells a fault for bytes that are no receipt", () => {
    expect(receiptJsonOf(nodeSuite, new Uint8Array())).toMatchObject({
      fault: { check: "format", code: "cbor_invalid" },
    });
    expect(receiptJsonOf(nodeSuite, hexToBytes("a0"))).toMatchObject({
      fault: { check: "format", code: "claims_invalid" },
    });
  });

  test("tells a time that is no date as the number it is", async () => {
    const far = 2 ** 53 - 1;
    const { bytes } = await makeReceipt({ mlDsa: false, execution: { issuedAtMs: far } });
    expect(receiptJsonOf(nodeSuite, bytes)).toMatchObject({ issuedAt: `${far} ms after 1970` });
  });
});
