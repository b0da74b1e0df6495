import { AssayError } from "@assay/core";
import type { IndexStore, SecretStore } from "@assay/protocol";

/** Index and secrets of a database that is still starting. */
export type Stores = {
  readonly index: IndexStore;
  readonly secrets: SecretStore;
  /** Whether the database answers, as far as is known without asking it. */
  readonly available: () => boolean;
};

/**
 * Stands for the stores of a database that may start later than the gateway, or not at all: until it is there each
 * call is refused with `database_unavailable`, and inference goes on without it.
 */
export function deferStores(
  starting: Promise<Stores>,
): Stores & { readonly started: () => boolean; readonly failure: () => unknown } {
  let stores: Stores | undefined;
  let failure: unknown;
  starting.then(
    (ready) => {
      stores = ready;
    },
    (error: unknown) => {
      failure = error;
    },
  );
  const now = (): Stores => {
    if (stores) return stores;
    throw new AssayError(
      "database_unavailable",
      failure === undefined ? "The database is still starting." : "The database did not start.",
      {
        hints: ["Receipts stay readable from the log; lists come back with the database."],
        ...(failure === undefined ? {} : { cause: failure }),
      },
    );
  };
  // Each method is forwarded by name, so a call made before the start fails as a rejected promise like any later one.
  const forward = <Store extends object>(pick: (ready: Stores) => Store): Store =>
    new Proxy({} as Store, {
      get:
        (_target, name) =>
        async (...parameters: readonly unknown[]) => {
          const store = pick(now()) as Record<string | symbol, (...all: readonly unknown[]) => unknown>;
          return store[name]?.(...parameters);
        },
    });
  return {
    index: forward(({ index }) => index),
    secrets: forward(({ secrets }) => secrets),
    available: () => stores?.available() ?? false,
    started: () => stores !== undefined,
    failure: () => failure,
  };
}
