import { Assay } from "@assay/sdk";

const assay = new Assay({ url: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402" });

const stream = assay.chat.stream({
  model: "demo/chat",
  messages: [{ role: "user", content: "What is 17 + 25?" }],
  temperature: 0,
});
for await (const { text } of stream) process.stdout.write(text);

const { verified, finishReason } = await stream.final();
console.log("\nverified", verified, "finish", finishReason);
