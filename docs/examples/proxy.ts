import { mkdir, writeFile } from "node:fs/promises";
import { createProxy } from "@assay/service-proxy";
import OpenAI from "openai";

await mkdir("receipts", { recursive: true });
const proxy = await createProxy(
  { upstreamUrl: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402", port: 0 },
  { onReceipt: ({ receiptId, bytes }) => writeFile(`receipts/${receiptId}.receipt`, bytes) },
);

// Any client of OpenAI's API, unchanged, in any language.
const client = new OpenAI({ baseURL: `${proxy.url}/v1`, apiKey: "unused" });
const { data, response } = await client.chat.completions
  .create({ model: "demo/chat", messages: [{ role: "user", content: "What is 17 + 25?" }], temperature: 0 })
  .withResponse();
console.log(data.choices[0]?.message.content);
console.log("verified", response.headers.get("assay-verified"));

await proxy.close();
