import { Socket } from "node:net";

// A child that answers with something that is no frame.
const channel = new Socket({ fd: 3, readable: true, writable: true });
channel.on("close", () => process.kill(process.pid, "SIGKILL"));
channel.write(Buffer.alloc(64, 0x41));
channel.resume();
