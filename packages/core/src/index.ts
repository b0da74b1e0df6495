export { AssayError, isAssayError } from "./error.ts";
export type { AssayErrorOptions } from "./error.ts";
export type { CryptoSuite, SignatureAlgorithm, Signer } from "./suite.ts";
export {
  allocateBytes,
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
export { CborTag, CborWriter, decodeCbor, encodeCbor, withCborWriter } from "./cbor.ts";
export type { CborLimits, CborMap, CborValue } from "./cbor.ts";
export { canonicalJson, parseJson } from "./json.ts";
export type { JsonLimits, JsonValue } from "./json.ts";
export {
  MAX_PATH_LENGTH,
  merkleLeaf,
  merkleLevels,
  merkleNode,
  merklePath,
  merkleRoot,
  merkleRootFromPath,
} from "./merkle.ts";
