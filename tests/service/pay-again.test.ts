import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openEmbeddedChain } from "@assay/driver-chain";
import { afterAll, expect, test } from "vitest";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import type { Money } from "../../apps/assay/src/server/money/money.ts";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { pino } from "pino";

const home = mkdtempSync(join(tmpdir(), "assay-again-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const nobody = `0x${"11".repeat(20)}` as const;

test("payments that could not begin are begun again by themselves", async () => {
  // Somebody else has the chain's folder at first: another start that has not ended yet, say.
  const holder = await openEmbeddedChain({
    directory: join(home, "chain/31337"),
    profile: 31337,
    keys: { deployer: nobody, operators: [nobody], submitter: nobody },
  });
  const server = await startServer({
    ...sourceChild(),
    home,
    host: "127.0.0.1",
    port: 0,
    seed: false,
    version: "0.0.0-test",
    logger: pino({ level: "silent" }),
    money: {
      chain: { kind: "embedded", profile: 31337 },
      settler: { entry: fileURLToPath(new URL("../../apps/assay/dist/settler.js", import.meta.url)) },
      eager: true,
    },
  });
  try {
    await expect(server.money?.ready()).rejects.toMatchObject({ code: "chain_directory_locked" });
    // Until then what is charged beside a free answer is not given away, and what is free is.
    const { desk, listings } = server.money as Money;
    await listings.put({ subject: "service:openings", asset: "USDC", owner: "me", perCall: "0.01" });
    const use = { subjects: ["model:me/net"], most: {}, resource: { url: "http://gateway.example/" } } as const;
    expect(desk.quote(use)).toBeUndefined();
    expect(() => desk.quote({ ...use, besides: [{ subject: "service:openings", used: {} }] })).toThrow(
      "Payments did not start.",
    );
    await holder.close();
    await expect
      .poll(
        () =>
          server.money?.ready().then(
            ({ place }) => place.development,
            () => undefined,
          ),
        { timeout: 60_000 },
      )
      .toBe(true);
  } finally {
    await server.close();
    await holder.close();
  }
});
