import OpenAI from "openai";

const url = process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402";
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused" });

const { data, response } = await client.chat.completions
  .create({ model: "demo/chat", messages: [{ role: "user", content: "What is 17 + 25?" }], temperature: 0 })
  .withResponse();

console.log(data.choices[0]?.message.content);
console.log("receipt", response.headers.get("assay-receipt-id"));
