import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AssayError } from "@assay/core";
import { EXIT, exitOfError, exitOfVerdict } from "./exit-codes.ts";
import { readIfThere, readWhole, writeWhole } from "./files.ts";
import { renderError } from "./render-error.ts";
import { formatBytes, formatTime, pad, printable, styleFor, table, toAscii, visibleLength, wrap } from "./style.ts";
import type { Sink } from "./world.ts";

const sink = (changes: Partial<Sink> = {}): Sink => ({
  write: () => undefined,
  isTerminal: false,
  columns: 80,
  colour: false,
  unicode: true,
  ...changes,
});
const plain = styleFor(sink());

describe("text", () => {
  test("wrapping loses no word and passes the width only for words that are longer", () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z]{1,30}$/), { minLength: 1 }),
        fc.integer({ min: 10, max: 60 }),
        (words, width) => {
          const text = wrap(words.join(" "), width, 4);
          expect(text.split(/\s+/)).toEqual(words);
          for (const line of text.split("\n")) {
            const alone = line.trim().split(" ").length === 1;
            expect(alone || line.trim().length + 4 <= width).toBe(true);
          }
        },
      ),
    );
  });

  test("colour takes no room", () => {
    const red = styleFor(sink({ colour: true })).fail("abc");
    expect(red).not.toBe("abc");
    expect(visibleLength(red)).toBe(3);
    expect(visibleLength(pad(red, 6))).toBe(6);
    expect(table(["A"], [[red], ["abcd"]], plain).split("\n")).toHaveLength(3);
  });

  test("ASCII is ASCII, whatever comes in", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(/\P{ASCII}/u.test(toAscii(text))).toBe(false);
      }),
    );
    expect(toAscii("a…█▁")).toBe("a...#_");
  });

  test("what a stranger wrote cannot move the cursor, hide or reverse text", () => {
    expect(printable("a\u001b[2J\u202eb\u200bc\nd")).toBe("a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}d");
  });

  test("every mark differs from every other of its kind, in both character sets", () => {
    for (const unicode of [true, false]) {
      const { mark } = styleFor(sink({ unicode }));
      for (const kind of ["enclave", "proof", "other"] as const) {
        const marks = (["pass", "fail", "inconclusive", "absent"] as const).map((status) => mark(kind, status));
        expect(new Set(marks).size).toBe(4);
      }
    }
  });

  test("sizes and times", () => {
    expect([0, 999, 1000, 1_500_000, 2e12].map(formatBytes)).toEqual(["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 TB"]);
    expect(formatTime(0)).toBe("1970-01-01 00:00:00 UTC");
    expect([Number.NaN, Number.POSITIVE_INFINITY, 1e300].map(formatTime)).toEqual(["unknown", "unknown", "unknown"]);
  });
});

describe("errors", () => {
  const error = new AssayError("thing_wrong", "The thing is wrong.", {
    hints: ["It should be right.", "Make it right with `assay doctor`."],
    cause: new Error("deep"),
  });

  test("what, hints, where it is explained, and the next command last", () => {
    expect(renderError(error, plain, false).split("\n")).toEqual([
      "✕ The thing is wrong.",
      "  It should be right.",
      "  Make it right with `assay doctor`.",
      "  thing_wrong – docs/errors/thing_wrong.md",
      "",
      "  assay doctor",
    ]);
    expect(renderError(error, plain, true)).toContain("caused by Error: deep");
  });

  test("what is not ours says so, and a chain that is a loop ends", () => {
    const loop = new Error("around");
    loop.cause = loop;
    const text = renderError(loop, plain, true);
    expect(text).toContain("Something unexpected happened: around");
    expect(text.split("caused by").length).toBeLessThan(10);
    expect(renderError("text", plain, true)).toContain("text");
    expect(renderError({ toString: () => "no" }, plain, false)).toContain("not an error");
  });

  test("every exit code has its cause", () => {
    const of = (code: string): number => exitOfError(new AssayError(code, "It was."), false);
    expect(["verified", "failed", "inconclusive"].map((status) => exitOfVerdict(status as "failed"))).toEqual([
      0, 10, 11,
    ]);
    expect([
      of("usage_invalid"),
      of("input_shape"),
      of("receipt_failed"),
      of("runtime_overloaded"),
      of("other"),
    ]).toEqual([EXIT.usage, EXIT.usage, EXIT.evidenceFailed, EXIT.nodeUnavailable, EXIT.failed]);
    expect(exitOfError(new Error("x"), true)).toBe(EXIT.interrupted);
    expect(exitOfError("x", false)).toBe(EXIT.failed);
  });
});

describe("files", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "assay-files-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("one byte past the limit is refused", async () => {
    const path = join(folder, "ten");
    writeFileSync(path, "0123456789");
    expect(await readWhole(path, 10, "file")).toHaveLength(10);
    await expect(readWhole(path, 9, "file")).rejects.toMatchObject({ code: "file_unreadable" });
    await expect(readIfThere(path, 9, "file")).rejects.toMatchObject({ code: "file_unreadable" });
  });

  test("only a file that is not there is nothing; a folder is an error", async () => {
    expect(await readIfThere(join(folder, "none"), 10, "file")).toBeUndefined();
    await expect(readIfThere(folder, 10, "file")).rejects.toMatchObject({ code: "file_unreadable" });
    await expect(readWhole(join(folder, "none"), 10, "file")).rejects.toMatchObject({ code: "file_unreadable" });
  });

  test("a written file is whole, for its owner alone, and leaves nothing beside it", () => {
    const path = join(folder, "new/secret");
    writeWhole(path, "a");
    writeWhole(path, new Uint8Array(100_000));
    expect(statSync(path)).toMatchObject({ size: 100_000 });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(folder, "new"))).toEqual(["secret"]);
  });
});
