import { describe, expect, it } from "vitest";
import { isLoopbackUrl, refuseDevelopment } from "./index.ts";

describe("development keys", () => {
  it("work on this machine alone", () => {
    for (const rpcUrl of [
      "http://127.0.0.1:8545",
      "http://localhost:1",
      "https://[::1]:8545/x",
      "http://127.9.9.9",
      // One number is an address as well, which URL writes out.
      "http://2130706433:8545",
    ]) {
      expect(isLoopbackUrl(rpcUrl)).toBe(true);
      for (const chainId of [31337, 84532, 8453]) expect(() => refuseDevelopment({ chainId, rpcUrl })).not.toThrow();
    }
  });

  it("are refused everywhere else, and where the address cannot be read", () => {
    for (const rpcUrl of [
      "https://mainnet.base.org",
      "http://10.0.0.1:8545",
      "http://0.0.0.0:8545",
      "http://127.0.0.1.example.com",
      "http://localhost.example.com",
      "http://127.0.0.1@example.com",
      "http://[::ffff:8.8.8.8]:8545",
      "ws://127.0.0.1:8545",
      "127.0.0.1:8545",
      "",
    ])
      for (const chainId of [31337, 84532, 8453])
        expect(() => refuseDevelopment({ chainId, rpcUrl })).toThrow(
          expect.objectContaining({ code: "development_key_refused" }) as Error,
        );
  });

  it("never repeats the address, which may hold a credential", () => {
    const rpcUrl = "https://user:hunter2@node.example/key-123";
    try {
      refuseDevelopment({ chainId: 8453, rpcUrl });
      expect.unreachable();
    } catch (error) {
      expect(JSON.stringify({ ...(error as object), message: (error as Error).message })).not.toMatch(
        /hunter2|key-123/,
      );
    }
  });
});
