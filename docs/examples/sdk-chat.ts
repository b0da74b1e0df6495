import { Assay } from "@assay/sdk";

const assay = new Assay({ url: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402" });

const answer = await assay.chat({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
});
console.log(answer.text);
console.log("verified", answer.verified, "pinned", answer.verdict?.pinned);
console.log("tokens", answer.usage.total_tokens, "receipt", answer.receiptId);
