import { createServer } from "node:http";
import { createOrtRuntime } from "@assay/driver-ort";
import { encodeInferResponse, joinBody, parseHeaderLength, parseInferRequest } from "@assay/protocol";
import type { LoadedModelRef } from "@assay/protocol";

// The floor: node:http, the same tensor codec, the same runtime and batching, and nothing else: no names, no
// tokens, no limits of its own, no receipts, no log, no metrics.
const [childEntry = "", path = "", sha256 = "", profile = "native"] = process.argv.slice(2);
const runtime = createOrtRuntime({ childEntry });
const model: LoadedModelRef = {
  manifestDigest: sha256,
  path,
  sha256,
  profile: profile === "native" ? "native" : "portable",
};

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const [only] = chunks;
    const body = chunks.length === 1 && only ? only : Buffer.concat(chunks);
    const header = request.headers["inference-header-content-length"];
    const infer = parseInferRequest(body, parseHeaderLength(typeof header === "string" ? header : undefined));
    runtime.run({ model, inputs: infer.inputs }).then(
      ({ outputs }) => {
        const encoded = encodeInferResponse({
          modelName: "m",
          outputs: outputs.map((tensor) => ({ tensor, binary: infer.binaryOutput })),
        });
        response.writeHead(200, {
          "content-type": encoded.contentType,
          "content-length": encoded.byteLength,
          ...(encoded.headerLength === undefined ? {} : { "inference-header-content-length": encoded.headerLength }),
        });
        response.end(joinBody(encoded));
      },
      (error: unknown) => {
        response.writeHead(500);
        response.end(String(error));
      },
    );
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  console.log(JSON.stringify({ port: typeof address === "object" && address ? address.port : 0 }));
});
process.on("SIGTERM", () => {
  server.closeAllConnections();
  server.close();
  void runtime.close().then(() => process.exit(0));
});
