import { verifiedFetch } from "@assay/sdk";
import OpenAI from "openai";

const url = process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402";
const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: "unused",
  fetch: verifiedFetch({ verify: "after" }),
});

const stream = await client.chat.completions.create({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
  stream: true,
});
let text = "";
for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
// Reached only when the whole stream is what was signed: anything else throws in the loop.
console.log(text);
