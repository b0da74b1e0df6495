import { checkDigest } from "./digest.ts";

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * The CIDv1 of a blob: codec `raw` (0x55), multihash sha2-256 (0x12, 32 bytes), in lower-case base32 with the
 * multibase prefix `b`; 59 characters. Refuses anything but a digest in lower-case hex with `blob_id_invalid`.
 *
 * @see https://github.com/multiformats/cid and RFC 4648 section 6 (without padding)
 */
export function cidOf(sha256: string): string {
  checkDigest(sha256);
  const bytes = [0x01, 0x55, 0x12, 0x20];
  for (let i = 0; i < sha256.length; i += 2) bytes.push(Number.parseInt(sha256.slice(i, i + 2), 16));
  let out = "b";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      out += BASE32.charAt((held >> bits) & 31);
    }
    held &= (1 << bits) - 1;
  }
  return bits > 0 ? out + BASE32.charAt((held << (5 - bits)) & 31) : out;
}
