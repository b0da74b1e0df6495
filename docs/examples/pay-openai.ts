import { randomBytes } from "node:crypto";
import { createPayer, spendLimit, verifiedFetch } from "@assay/sdk";
import { nobleEvmSigner, nobleEvmSuite } from "@assay/x402/noble";
import OpenAI from "openai";

const url = process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402";
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
  policy: { assets: [spendLimit(usdc, { perCall: "0.01", perHour: "1" })], hosts: [new URL(url).host] },
});

// Any client that takes a fetch: it pays, checks the receipt, and lets the answer through.
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", fetch: verifiedFetch({ payer }) });
const answer = await client.chat.completions.create({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
});
console.log(answer.choices[0]?.message.content);
console.log("payments", (await payer.spends()).length);
