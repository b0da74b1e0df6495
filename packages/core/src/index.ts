export { AssayError, isAssayError } from "./error.ts";
export type { AssayErrorOptions } from "./error.ts";
export type { CryptoSuite, SignatureAlgorithm, Signer } from "./suite.ts";
export {
  base64ToBytes,
  base64UrlToBytes,
  bytesToBase64,
  bytesToBase64Url,
  bytesToHex,
  bytesToUtf8,
  compareBytes,
  concatBytes,
  equalBytes,
  hexToBytes,
  utf8ToBytes,
} from "./bytes.ts";
