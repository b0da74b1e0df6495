import { createRequire } from "node:module";

/** What is used of libsecp256k1's binding; arrays of 32, 33, 64 and 65 bytes. */
export type NativeSecp256k1 = {
  readonly ecdsaSign: (
    digest: Uint8Array,
    key: Uint8Array,
  ) => { readonly signature: Uint8Array; readonly recid: number };
  readonly ecdsaRecover: (signature: Uint8Array, recid: number, digest: Uint8Array, compressed: boolean) => Uint8Array;
  readonly publicKeyCreate: (key: Uint8Array, compressed: boolean) => Uint8Array;
  readonly privateKeyVerify: (key: Uint8Array) => boolean;
};

/**
 * The native binding, or undefined where none was built for this platform. The package's own entry would fall back to
 * slow JavaScript without a word, so its binding is asked for by name.
 */
export function loadNative(
  load: (id: string) => unknown = createRequire(import.meta.url),
): NativeSecp256k1 | undefined {
  try {
    const found = load("secp256k1/bindings.js");
    return isBinding(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

function isBinding(value: unknown): value is NativeSecp256k1 {
  return (
    typeof value === "object" &&
    value !== null &&
    ["ecdsaSign", "ecdsaRecover", "publicKeyCreate", "privateKeyVerify"].every(
      (name) => typeof (value as Record<string, unknown>)[name] === "function",
    )
  );
}
