export { nodeSuite } from "./node-suite.ts";
export { ed25519Signer, mlDsa44Signer, openKeystore, randomSeed } from "./keystore.ts";
export type { FileKeystore } from "./keystore.ts";
