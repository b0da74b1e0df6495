import { Assay, GatewayError, InferenceMode, ReceiptError } from "@assay/sdk";

const assay = new Assay({
  url: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402",
  routing: { objective: "latency" },
  maxSpend: "0.01",
});

try {
  const answer = await assay.chat({
    model: "demo/chat",
    messages: [{ role: "user", content: "What is 17 + 25?" }],
    assay: { mode: InferenceMode.TEE },
  });
  console.log(answer.text);
} catch (error) {
  if (error instanceof ReceiptError) console.error("not to be used:", error.code, error.verdict?.code);
  else if (error instanceof GatewayError) console.log("refused with status", error.status);
  else throw error;
}
