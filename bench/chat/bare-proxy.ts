import { createServer } from "node:http";
import { Pool } from "undici";

// The floor: a proxy on node:http and undici that parses the request and hands it on, and does nothing else: no
// routing, no limits, no receipts.
const [upstream = ""] = process.argv.slice(2);
const { origin, pathname } = new URL(upstream);
const pool = new Pool(origin, { connections: 1024, pipelining: 1 });

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => parts.push(part));
  request.on("end", () => {
    const asked = JSON.parse(Buffer.concat(parts).toString()) as { readonly model: string };
    void pool
      .request({
        method: "POST",
        path: `${pathname}/chat/completions`,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...asked, model: "bench" }),
      })
      .then(async ({ statusCode, headers, body }) => {
        const type = String(headers["content-type"]);
        if (type.startsWith("text/event-stream")) {
          response.writeHead(statusCode, { "content-type": type });
          body.pipe(response);
          return;
        }
        const whole = Buffer.from(await body.arrayBuffer());
        response.writeHead(statusCode, { "content-type": type, "content-length": whole.length });
        response.end(whole);
      });
  });
});
server.keepAliveTimeout = 300_000;
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  console.log(JSON.stringify({ port: typeof address === "object" ? address?.port : 0 }));
});
process.on("SIGTERM", () => process.exit(0));
