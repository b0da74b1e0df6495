import { parentPort } from "node:worker_threads";
import { serveSettler } from "./wire.ts";

// The settler's own thread, or a process of its own when there is no thread above it. Keys and addresses come in the first
// message: neither arguments nor the environment, which other processes can read.
if (parentPort) {
  const port = parentPort;
  serveSettler(
    { post: (message) => port.postMessage(message), onMessage: (listener) => void port.on("message", listener) },
    // Ends the thread, which whoever started it starts again.
    () => process.exit(1),
  );
} else if (process.send) {
  const { close } = serveSettler(
    {
      post: (message) => void process.send?.(message),
      onMessage: (listener) => void process.on("message", listener),
    },
    () => process.exit(1),
  );
  // Whoever started it is gone: nobody would write supplements or see what happens.
  process.on("disconnect", () => void close().finally(() => process.exit(0)));
} else {
  throw new TypeError("The settler is started by another program.");
}
