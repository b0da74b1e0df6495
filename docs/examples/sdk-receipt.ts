import { readFile, writeFile } from "node:fs/promises";
import { nodeSuite } from "@assay/driver-crypto";
import { parseTrust } from "@assay/receipts";
import { Assay } from "@assay/sdk";
import { createVerifier } from "@assay/verifier";

const url = process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402";
// Here from the gateway itself, so that the example runs; in earnest from its operator, over a way that you trust.
const trustFile = await (await fetch(`${url}/v1/trust`)).text();

const assay = new Assay({ url, trust: trustFile, suite: nodeSuite });
const answer = await assay.chat({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
});
const { bytes } = await answer.receipt();
await writeFile("answer.receipt", bytes);

// Later, elsewhere, without a network:
const verify = createVerifier({ trust: parseTrust(trustFile), suite: nodeSuite });
const verdict = await verify(await readFile("answer.receipt"), Date.now());
console.log(verdict.status);
console.log(verdict.answers.whichModel);
