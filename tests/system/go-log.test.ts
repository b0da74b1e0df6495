import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assayJson, makeHome, root, runProgram, startGateway } from "./harness.ts";
import type { Home } from "./harness.ts";

/** Enough receipts that the log has a full tile of 256 hashes and a partial one after it. */
const RECEIPTS = 300;

describe("the log of a running gateway before Go's checksum-database code", () => {
  let home: Home;
  let log: string;
  let vkey: string;
  let built: string;
  let ended: number | null;

  beforeAll(async () => {
    home = makeHome();
    log = join(home.path, "log");
    built = mkdtempSync(join(tmpdir(), "assay-go-"));
    const gateway = await startGateway(home);
    try {
      const keys = (await (await fetch(`${gateway.url}/log/vkeys`)).text()).trim().split("\n");
      // Go's code knows Ed25519; the post-quantum key signs the same checkpoints beside it.
      vkey = keys[0] ?? "";
      const picture = `image=@${join(root, "models/digits/samples/seven.png")}`;
      assayJson(home, "run", "demo/digits", "--input", picture);
      copyFileSync(join(log, "checkpoint"), join(log, "checkpoint.older"));
      const body = JSON.stringify({
        inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data: Array.from({ length: 64 }, () => 0.5) }],
      });
      for (let sent = 0; sent < RECEIPTS; sent += 50) {
        const answers = await Promise.all(
          Array.from({ length: 50 }, () =>
            fetch(`${gateway.url}/v2/models/demo%2Fdigits/infer`, { method: "POST", body }),
          ),
        );
        for (const answer of answers) {
          if (answer.status !== 200) throw new Error(`an answer had status ${answer.status}`);
          await answer.arrayBuffer();
        }
      }
    } finally {
      ended = await gateway.stop();
    }
  });
  afterAll(() => {
    home.remove();
    rmSync(built, { recursive: true, force: true });
  });

  const check = (): ReturnType<typeof runProgram> =>
    runProgram("bash", [join(root, "tests/system/go/run.sh"), log, vkey], {
      ...process.env,
      ASSAY_GO_VERIFY: join(built, "verify"),
      GOCACHE: join(built, "cache"),
    });

  it("is left behind whole by a server that was asked to stop", () => {
    expect(ended).toBe(0);
  });

  it("is accepted: every hash under the signed root, records included, the older tree a prefix", () => {
    const ran = check();
    expect(ran.stderr).toBe("");
    expect(ran).toMatchObject({ code: 0, stdout: "ok\n" });
    const size = Number(readFileSync(join(log, "checkpoint"), "utf8").split("\n")[1]);
    expect(size).toBeGreaterThan(RECEIPTS);
  });

  it.each(["tile/0/000", "tile/entries/000"])("is refused with one bit of %s changed", (name) => {
    const path = join(log, name);
    const good = readFileSync(path);
    const bad = Uint8Array.from(good);
    bad[10] = (bad[10] ?? 0) ^ 1;
    writeFileSync(path, bad);
    try {
      const ran = check();
      expect(ran.code).toBe(1);
      expect(ran.stderr).toContain("refused");
    } finally {
      writeFileSync(path, good);
    }
  });
});
