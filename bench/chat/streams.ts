import { connect } from "node:net";

export type StreamsResult = {
  /** Milliseconds from a stream's request to its first content frame. */
  readonly firstMs: readonly number[];
  readonly complete: number;
};

/**
 * `count` concurrent streams, one begun every three milliseconds. `whenAllRun` is called when all are running. Answers are read as
 * bytes: the first `"content":"` counts as the first token, `[DONE]` as the end.
 */
export async function streams(
  port: number,
  request: Buffer,
  count: number,
  whenAllRun: () => void,
): Promise<StreamsResult> {
  const firstMs: number[] = [];
  let complete = 0;
  const running: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    running.push(
      new Promise((resolve, reject) => {
        const socket = connect({ port, host: "127.0.0.1", noDelay: true });
        let sentMs = 0;
        let started = false;
        let tail = "";
        socket.once("connect", () => {
          sentMs = performance.now();
          socket.write(request);
        });
        socket.on("data", (bytes: Buffer) => {
          const text = tail + bytes.toString("latin1");
          if (!started && /"content":"[^"]/.test(text)) {
            started = true;
            firstMs.push(performance.now() - sentMs);
          }
          if (text.includes("data: [DONE]")) {
            complete++;
            socket.destroy();
          }
          tail = text.slice(-512);
        });
        socket.once("error", reject);
        socket.once("close", () => resolve());
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  setTimeout(whenAllRun, 1000);
  await Promise.all(running);
  return { firstMs, complete };
}
