import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseJson } from "@assay/core";
import { expect, test } from "vitest";
import { createDecoder } from "./child/decoder.ts";
import { loadOrt } from "./child/ort.ts";
import { isObject } from "./json.ts";
import { LOGIT_TOLERANCE } from "./profile.ts";

const folder = join(dirname(fileURLToPath(import.meta.url)), "../../../models/chat");

test("one token at a time and many at once differ by far less than the tolerance", async () => {
  const config = parseJson(readFileSync(join(folder, "config.json")));
  if (!isObject(config)) throw new TypeError("config.json is no object");
  const ort = await loadOrt(1);
  const session = await ort.create(readFileSync(join(folder, "model.onnx")));
  const decoder = createDecoder(ort, session, config, { context: 512, chunk: 256 });
  if (decoder === undefined) throw new TypeError("the chat model is no decoder");
  const tokens: number[] = [400];
  const rows: Float32Array[] = [];
  let past = decoder.empty;
  for (let position = 0; position < 200; position++) {
    const step = await decoder.run(past, tokens.slice(-1));
    past = step.past;
    const row = step.row(0).slice();
    rows.push(row);
    tokens.push(position % 5 === 0 ? 300 + position : row.indexOf(Math.max(...row)));
  }
  let largest = 0;
  for (const chunk of [200, 33]) {
    past = decoder.empty;
    for (let at = 0; at < rows.length; at += chunk) {
      const part = tokens.slice(at, Math.min(at + chunk, rows.length));
      const result = await decoder.run(past, part);
      past = result.past;
      for (const [index] of part.entries()) {
        const slow = rows[at + index] ?? new Float32Array();
        for (const [token, logit] of result.row(index).entries()) {
          largest = Math.max(largest, Math.abs(logit - (slow[token] ?? 0)));
        }
      }
    }
  }
  expect(largest).toBeLessThan(LOGIT_TOLERANCE / 10);
  await session.release();
});
