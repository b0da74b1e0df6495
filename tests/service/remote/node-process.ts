// A node as a process of its own, to be killed: node node-process.ts DIRECTORY GATEWAY
import { ed25519Signer } from "@assay/driver-crypto";
import { startTestNode } from "./world.ts";

const [directory = "", gatewayUrl = ""] = process.argv.slice(2);
const start = async (): Promise<Awaited<ReturnType<typeof startTestNode>>> => {
  for (;;) {
    try {
      return await startTestNode({
        directory,
        gatewayUrl,
        seed: new Uint8Array(32).fill(5),
        operator: ed25519Signer(new Uint8Array(32).fill(9)),
        offerAfterMs: 100,
      });
    } catch (error) {
      if ((error as { code?: string }).code !== "gateway_unreachable") throw error;
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
    }
  }
};
const node = await start();
process.stdout.write(`ready ${node.subject}\n`);
setInterval(() => process.stdout.write(`owed ${node.outbox.waiting()?.count ?? 0} ${node.link.state()}\n`), 50);
process.stdin.on("end", () => process.kill(process.pid, "SIGKILL")).resume();
