import { createServer } from "node:http";

// An OpenAI-compatible server that answers at once with about 900 bytes, or streams at a fixed pace: what gateways
// are measured in front of. It does as little as it can.
const TOKENS = 40;
const FIRST_MS = 100;
const EACH_MS = 200;
const text = "A receipt is the signed record of one execution. ".repeat(14);
const answer = Buffer.from(
  JSON.stringify({
    id: "chatcmpl-bench",
    object: "chat.completion",
    created: 1_700_000_000,
    model: "bench",
    choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: "stop", logprobs: null }],
    usage: { prompt_tokens: 12, completion_tokens: 150, total_tokens: 162 },
  }),
);
const chunk = (choices: readonly object[], usage?: object): string =>
  `data: ${JSON.stringify({
    id: "chatcmpl-bench",
    object: "chat.completion.chunk",
    created: 1_700_000_000,
    model: "bench",
    choices,
    ...(usage ? { usage } : {}),
  })}\n\n`;
const piece = chunk([{ index: 0, delta: { content: " receipt" }, finish_reason: null }]);
const last =
  chunk([{ index: 0, delta: {}, finish_reason: "stop" }]) +
  chunk([], { prompt_tokens: 12, completion_tokens: TOKENS, total_tokens: 12 + TOKENS }) +
  "data: [DONE]\n\n";

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => parts.push(part));
  request.on("end", () => {
    if (request.method === "GET") {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(
        '{"object":"list","data":[{"id":"bench","object":"model","created":1700000000,"owned_by":"bench"}]}',
      );
      return;
    }
    if (!Buffer.concat(parts).includes('"stream":true')) {
      response.writeHead(200, { "content-type": "application/json", "content-length": answer.length });
      response.end(answer);
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    let sent = 0;
    const next = (): void => {
      if (response.destroyed) return;
      if (sent++ < TOKENS) {
        response.write(piece);
        setTimeout(next, EACH_MS);
      } else response.end(last);
    };
    setTimeout(next, FIRST_MS);
  });
});
// Gateways keep connections; one that closes under a request would count against them.
server.keepAliveTimeout = 300_000;
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  console.log(JSON.stringify({ port: typeof address === "object" ? address?.port : 0 }));
});
process.on("SIGTERM", () => process.exit(0));
