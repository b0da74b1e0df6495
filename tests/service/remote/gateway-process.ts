// A gateway as a process of its own, to be killed: node gateway-process.ts DIRECTORY PORT
import { ed25519Signer } from "@assay/driver-crypto";
import { startTestGateway } from "./world.ts";

const [directory = "", port = "0"] = process.argv.slice(2);
const gateway = await startTestGateway({
  directory,
  operator: ed25519Signer(new Uint8Array(32).fill(9)),
  port: Number(port),
  seeds: { node: new Uint8Array(32).fill(7), gateway: new Uint8Array(32).fill(8) },
  heartbeatMs: 50,
  silenceMs: 1000,
  graceMs: 200,
});
process.stdout.write(`ready ${gateway.port}\n`);
// Nobody stops it but a signal; without its parent it has no reason to be.
process.stdin.on("end", () => process.kill(process.pid, "SIGKILL")).resume();
