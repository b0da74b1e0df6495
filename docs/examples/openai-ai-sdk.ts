import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { verifiedFetch } from "@assay/sdk";
import { streamText } from "ai";

const url = process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402";
const assay = createOpenAICompatible({
  name: "assay",
  baseURL: `${url}/v1`,
  fetch: verifiedFetch({ verify: "after" }),
});

const result = streamText({ model: assay("demo/chat"), prompt: "What is 17 + 25?", temperature: 0 });
let text = "";
for await (const piece of result.textStream) text += piece;
console.log(text);
console.log("finish", await result.finishReason);
