import { randomBytes } from "node:crypto";

/** Randomness drawn in pages: one system call serves a hundred receipts. Bytes are handed out once. */
export function pooledRandom(): (bytes: number) => Uint8Array {
  const PAGE = 4096;
  let page = new Uint8Array();
  let used = 0;
  return (bytes) => {
    if (used + bytes > page.length) {
      page = new Uint8Array(randomBytes(Math.max(PAGE, bytes)));
      used = 0;
    }
    const out = page.slice(used, used + bytes);
    page.fill(0, used, used + bytes);
    used += bytes;
    return out;
  };
}
