/** A flag with a text, for commands that can do without it. */
export const text = (placeholder: string, brief: string) =>
  ({ kind: "parsed", parse: String, optional: true, placeholder, brief }) as const;

export const url = { url: text("url", "Gateway to ask") } as const;
export const trust = { trust: text("file", "What to trust (trust.json of the home)") } as const;
export const save = { save: text("file", "Write it to a file") } as const;

export const retention = {
  kind: "enum",
  values: ["none", "server-encrypted"],
  default: "none",
  brief: "Whether the gateway keeps what was asked and answered",
} as const;
export const identify = {
  kind: "boolean",
  default: false,
  withNegated: false,
  brief: "Ask as this home's owner, so that the receipt names its key",
} as const;

/** One argument that has to be there. */
export const one = (placeholder: string, brief: string) =>
  ({ kind: "tuple", parameters: [{ placeholder, brief, parse: String }] }) as const;
/** One argument that may be left out. */
export const perhaps = (placeholder: string, brief: string) =>
  ({ kind: "tuple", parameters: [{ placeholder, brief, parse: String, optional: true }] }) as const;
