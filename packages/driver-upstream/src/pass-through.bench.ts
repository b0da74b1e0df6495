import { spawn } from "node:child_process";
import { Pool } from "undici";
import { createUpstream } from "./index.ts";

// What the driver costs beside undici alone, in CPU time of this process; the server is a process of its own.
//   node --import tsx --conditions=assay-source packages/driver-upstream/src/pass-through.bench.ts

const CONNECTIONS = 16;
const REQUESTS = 6000;
const CHUNKS = 100;
const STREAMS = 1000;

const server = `
import { createServer } from "node:http";
const chunk = (content, finish = null) => "data: " + JSON.stringify({ id: "chatcmpl-0123456789", object: "chat.completion.chunk",
  created: 1700000000, model: "m", system_fingerprint: "fp_0", choices: [{ index: 0, delta: content === "" ? {} : { content }, logprobs: null, finish_reason: finish }] }) + "\\n\\n";
const end = chunk("", "stop") + "data: " + JSON.stringify({ choices: [], usage: { prompt_tokens: 9, completion_tokens: ${CHUNKS}, total_tokens: 9 + ${CHUNKS} } }) + "\\n\\ndata: [DONE]\\n\\n";
const whole = JSON.stringify({ id: "chatcmpl-0123456789", object: "chat.completion", created: 1700000000, model: "m", choices: [{ index: 0,
  message: { role: "assistant", content: "x".repeat(600) }, logprobs: null, finish_reason: "stop" }], usage: { prompt_tokens: 9, completion_tokens: 50, total_tokens: 59 } });
createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts).toString();
    if (!body.includes('"stream":true')) { response.writeHead(200, { "content-type": "application/json" }); return response.end(whole); }
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (body.includes("held")) return response.write(chunk("word "));
    let left = ${CHUNKS};
    const next = () => { if (left-- > 0) { response.write(chunk("word ")); setImmediate(next); } else response.end(end); };
    next();
  });
}).listen(0, "127.0.0.1", function () { process.stdout.write(this.address().port + "\\n"); });
process.stdin.on("end", () => process.exit(0)).resume();
`;

const child = spawn(process.execPath, ["--input-type=module", "-e", server], { stdio: ["pipe", "pipe", "inherit"] });
const port = await new Promise<number>((resolve) => child.stdout.once("data", (data: Buffer) => resolve(Number(data))));
const url = `http://127.0.0.1:${port}`;
const engine = createUpstream({
  name: "bench",
  kind: "openai-compatible",
  baseUrl: `${url}/v1`,
  limits: { maxRunning: STREAMS },
  now: Date.now,
  random: Math.random,
});
const pool = new Pool(url, { connections: CONNECTIONS });
const content = "y".repeat(300);

async function raw(stream: boolean): Promise<void> {
  const { body } = await pool.request({
    path: "/v1/chat/completions",
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "m", messages: [{ role: "user", content }], ...(stream ? { stream } : {}) }),
  });
  for await (const _ of body);
}

async function driven(stream: boolean): Promise<void> {
  const { events } = engine.generate(
    { kind: "chat", model: { name: "m" }, messages: [{ role: "user", content }], parameters: {}, stream },
    { signal: new AbortController().signal },
  );
  for await (const _ of events);
}

async function measure(run: () => Promise<void>, count: number): Promise<number> {
  let left = count;
  const before = process.cpuUsage();
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (left-- > 0) await run();
    }),
  );
  const used = process.cpuUsage(before);
  return (used.user + used.system) / count;
}

for (const stream of [false, true]) {
  const count = stream ? REQUESTS / 10 : REQUESTS;
  for (const run of [raw, driven]) await measure(() => run(stream), count / 2);
  const rounds: [number, number][] = [];
  for (let i = 0; i < 5; i++)
    rounds.push([await measure(() => raw(stream), count), await measure(() => driven(stream), count)]);
  const best = [0, 1].map((at) => Math.min(...rounds.map((round) => round[at] ?? 0)));
  const what = stream ? `stream of ${CHUNKS} chunks` : "whole answer of 900 B";
  console.log(`${what}: undici alone ${best[0]?.toFixed(0)} us, driver ${best[1]?.toFixed(0)} us of CPU per request`);
}

const collect = globalThis.gc;
collect?.();
const empty = process.memoryUsage().rss;
const stop = new AbortController();
await Promise.all(
  Array.from({ length: STREAMS }, async () => {
    const { events } = engine.generate(
      {
        kind: "chat",
        model: { name: "m" },
        messages: [{ role: "user", content: "held" }],
        parameters: {},
        stream: true,
      },
      { signal: stop.signal },
    );
    const iterator = events[Symbol.asyncIterator]();
    await iterator.next();
    void iterator.next().catch(() => undefined);
  }),
);
collect?.();
console.log(
  `${STREAMS} streams held: ${((process.memoryUsage().rss - empty) / STREAMS / 1000).toFixed(1)} kB of RSS each`,
);
stop.abort();
await engine.close();
await pool.close();
child.stdin.end();
