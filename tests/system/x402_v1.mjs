// Pays with the deprecated first version of x402's client, unchanged, and prints what it got.
// Usage: x402_v1.mjs FOLDER URL KEY MODEL; FOLDER is where x402-fetch is installed.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, url, key, model] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { createSigner, decodeXPaymentResponse, wrapFetchWithPayment } = await import(
  pathToFileURL(require.resolve("x402-fetch")).href
);

const signer = await createSigner("base-sepolia", key);
const pay = wrapFetchWithPayment(fetch, signer);
const asked = {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    model,
    messages: [{ role: "user", content: "What is 17 + 25?" }],
    temperature: 0,
    max_tokens: 32,
  }),
};
const response = await pay(`${url}/v1/chat/completions`, asked);
const answer = await response.json();
const header = response.headers.get("x-payment-response");
console.log(
  JSON.stringify({
    status: response.status,
    text: answer.choices?.[0]?.message?.content ?? null,
    receiptId: response.headers.get("assay-receipt-id"),
    grant: response.headers.get("assay-grant"),
    payment: header === null ? null : decodeXPaymentResponse(header),
  }),
);
