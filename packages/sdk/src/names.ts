import { clientError } from "./errors.ts";

// Which characters a hub allows is for the hub to say; here only the parts are told from each other.
const NAME = /^([^/@\s]{1,128})\/([^/@\s]{1,256})(?:@(\d{1,9}))?$/;

/** A model as a person names it. */
export type ModelName = { readonly namespace: string; readonly bare: string; readonly version?: number };

/** Reads `namespace/name` or `namespace/name@version`. Throws `model_name_invalid`. */
export function parseModelName(name: string): ModelName {
  const [, namespace, short, version] = NAME.exec(name) ?? [];
  if (namespace === undefined || short === undefined) {
    throw clientError("model_name_invalid", `${JSON.stringify(name.slice(0, 80))} is not a model's name.`, {
      hints: ["A name is namespace/name or namespace/name@version, for example demo/digits."],
    });
  }
  return { namespace, bare: `${namespace}/${short}`, ...(version === undefined ? {} : { version: Number(version) }) };
}

/** The id if it is one: 32 lower-case hexadecimal digits. Throws `receipt_id_invalid`. */
export function checkReceiptId(id: string): string {
  if (/^[0-9a-f]{32}$/.test(id)) return id;
  throw clientError("receipt_id_invalid", `${JSON.stringify(id.slice(0, 80))} is not a receipt id.`, {
    hints: ["A receipt id is 32 hexadecimal digits; `assay receipt ls` lists those you have."],
  });
}
