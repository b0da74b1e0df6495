import { writeFile } from "node:fs/promises";
import { verifiedFetch } from "@assay/sdk";
import OpenAI from "openai";

const url = process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402";
const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: "unused",
  fetch: verifiedFetch({
    // trust: await readFile("trust.json", "utf8"),
    async onReceipt({ receiptId, bytes, verdict }) {
      await writeFile(`${receiptId}.receipt`, bytes);
      console.log("receipt", receiptId, verdict.status);
    },
  }),
});

const answer = await client.chat.completions.create({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
});
console.log(answer.choices[0]?.message.content);
