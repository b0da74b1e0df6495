import { randomBytes } from "node:crypto";
import { Assay, createPayer, spendLimit } from "@assay/sdk";
import { nobleEvmSigner, nobleEvmSuite } from "@assay/x402/noble";

// `npx assay wallet export --yes` prints the key of a development wallet; one without money pays for nothing.
const key = process.env["ASSAY_WALLET_KEY"]?.replace(/^0x/, "");
const usdc = {
  symbol: "USDC",
  network: "eip155:31337",
  address: "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
  decimals: 6,
} as const;
const payer = createPayer({
  signer: nobleEvmSigner(key === undefined ? randomBytes(32) : Buffer.from(key, "hex")),
  suite: nobleEvmSuite,
  // What is not named here is refused before anything is signed.
  policy: { assets: [spendLimit(usdc, { perCall: "0.01", perHour: "1" })] },
});

const assay = new Assay({ url: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402", payer });
const answer = await assay.chat({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
});
console.log(answer.text);
console.log("payment", answer.payment?.paymentId ?? "none: it is free");
for (const { amount, payee } of await payer.spends()) console.log("spent", amount, "on", payee);
