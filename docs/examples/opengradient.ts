import { Assay, InferenceMode, TEE_LLM } from "@assay/sdk";
import type { ResponseFormat } from "@assay/sdk";

const assay = new Assay({ url: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402" });
const known = new Set((await assay.models()).map(({ id }) => id));

const format: ResponseFormat = { type: "text" };
const answer = await assay.chat({
  model: known.has(TEE_LLM.GPT_5) ? TEE_LLM.GPT_5 : "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  max_tokens: 100,
  temperature: 0,
  response_format: format,
  assay: { mode: InferenceMode.VANILLA },
});
console.log(answer.text, answer.finishReason);
console.log("verified", answer.verified);
