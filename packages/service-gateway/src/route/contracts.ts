import { AssayError } from "@assay/core";
import type { RoutingOptions } from "@assay/protocol";
import type { z } from "zod";
import { openDocument } from "./document.ts";
import type { DocumentFile } from "./document.ts";
import { contractBody, contractDocument, contractName, issuesOf } from "./schemas.ts";
import type { TEXT_KINDS } from "./schemas.ts";

/** A name that applications use, bound by the operator to models and to what an answer must keep to. */
export type Contract = {
  readonly name: string;
  readonly models: readonly string[];
  readonly kinds?: readonly (typeof TEXT_KINDS)[number][];
  readonly require?: RoutingOptions;
  readonly objective?: RoutingOptions["objective"];
  readonly changedAt: string;
};

export type ContractStore = {
  readonly list: () => readonly Contract[];
  readonly get: (name: string) => Contract | undefined;
  /** Makes the contract or replaces it. Throws `contract_invalid`, naming what does not fit. */
  readonly put: (name: string, body: unknown) => Promise<Contract>;
  /** Throws `contract_not_found`. */
  readonly remove: (name: string) => Promise<void>;
};

/** Contracts that one gateway may have. */
export const MAX_CONTRACTS = 1_000;

type Stored = z.infer<typeof contractDocument>["contracts"][string];

/** Opens the store. Throws `route_document_invalid` for a file that is not one. */
export async function openContractStore(modules: {
  readonly file: DocumentFile;
  readonly now: () => number;
}): Promise<ContractStore> {
  const document = await openDocument(modules.file, "list of contracts", (json) => contractDocument.parse(json), {
    version: 1 as const,
    contracts: {},
  });
  const get = (name: string): Contract | undefined => {
    const { contracts } = document.get();
    const stored = Object.hasOwn(contracts, name) ? contracts[name] : undefined;
    return stored && shown(name, stored);
  };
  return {
    list: () => Object.entries(document.get().contracts).map(([name, stored]) => shown(name, stored)),
    get,
    async put(name, body) {
      if (!contractName.safeParse(name).success) throw nameInvalid(name);
      const result = contractBody.safeParse(body);
      if (!result.success)
        throw new AssayError("contract_invalid", `The contract does not fit: ${issuesOf(result.error).join("; ")}.`);
      const stored: Stored = { ...result.data, changedAtMs: modules.now() };
      await document.update((value) => {
        // A contract of contracts would be one that changes when another does, unseen.
        const nested = result.data.models.find((model) => model === name || Object.hasOwn(value.contracts, model));
        if (nested !== undefined)
          throw new AssayError("contract_invalid", `The contract names another contract, ${nested}.`, {
            hints: ["Name models: namespace/name, upstream/model, or any."],
          });
        const user = Object.entries(value.contracts).find(
          ([other, { models }]) => other !== name && models.includes(name),
        );
        if (user)
          throw new AssayError("contract_invalid", `The contract ${user[0]} has a model of this name.`, {
            hints: ["Take another name, or name that model there by its full name."],
          });
        if (!Object.hasOwn(value.contracts, name) && Object.keys(value.contracts).length >= MAX_CONTRACTS)
          throw new AssayError("contract_invalid", `There are ${MAX_CONTRACTS} contracts already.`);
        return { ...value, contracts: { ...value.contracts, [name]: stored } };
      });
      return shown(name, stored);
    },
    async remove(name) {
      await document.update((value) => {
        if (!Object.hasOwn(value.contracts, name)) throw contractNotFound(name);
        return {
          ...value,
          contracts: Object.fromEntries(Object.entries(value.contracts).filter(([other]) => other !== name)),
        };
      });
    },
  };
}

function shown(name: string, { changedAtMs, ...stored }: Stored): Contract {
  return { name, ...stored, changedAt: new Date(changedAtMs).toISOString() } as Contract;
}

export function contractNotFound(name: string): AssayError {
  return new AssayError("contract_not_found", `There is no contract named ${JSON.stringify(name.slice(0, 64))}.`);
}

function nameInvalid(name: string): AssayError {
  return new AssayError("contract_invalid", `${JSON.stringify(name.slice(0, 100))} is not a name for a contract.`, {
    hints: ["A name is 1 to 64 letters, digits, dots, dashes and underscores, and not any."],
  });
}
