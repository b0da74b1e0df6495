import type {
  LanguageModelFiles,
  ListedEngineModel,
  Listing,
  ListingSubject,
  SecurityMode,
  TextExecutor,
} from "@assay/protocol";
import type { AssurancePolicy, Jurisdiction, NodeCandidate, Price, RoutedKind } from "@assay/routing";
import type { CryptoSuite } from "@assay/core";
import type { Contract } from "./contracts.ts";

/** A language model of the hub, as the router needs to know it. */
export type HubTextModel = {
  readonly name: string;
  readonly version: number;
  readonly manifestDigest: string;
  readonly kinds: readonly RoutedKind[];
  readonly family?: string;
  readonly contextTokens?: number;
  readonly maxOutputTokens?: number;
  /** Whether its answers can be checked again; default true. */
  readonly auditable?: boolean;
  /** Absent: this gateway's own node runs it for nothing. */
  readonly price?: Price;
};

/** The hub, as functions. `viewer` is the owner who asks; private models of others are as if they were not there. */
export type HubTextModels = {
  /** Whether any version of `name` exists, whoever may see it: such a name is the hub's and nobody else's. */
  readonly has: (name: string) => boolean;
  /** Current versions of all text models that `viewer` may use. */
  readonly list: (viewer: string | undefined) => Promise<readonly HubTextModel[]>;
  /**
   * The version that `namespace/name[@version]` names. Throws `model_name_invalid`, `model_not_found`,
   * `version_not_found`, `model_deprecated`, and `kind_unsupported` for a model of tensors.
   */
  readonly resolve: (text: string, viewer: string | undefined) => Promise<HubTextModel>;
  /** Its files on local disk. */
  readonly files: (model: HubTextModel) => Promise<LanguageModelFiles>;
};

/** An upstream that is configured and runs, as the router needs to know it. */
export type RoutedUpstream = {
  readonly name: string;
  /** What it lists; may fail or take long, and is remembered here. */
  readonly models: () => Promise<readonly ListedEngineModel[]>;
  readonly prices?: Readonly<Record<string, Price>>;
  readonly families?: Readonly<Record<string, string>>;
  readonly country?: string;
  readonly maxInFlight?: number;
};

/** The node in this process. */
export type LocalNode = {
  readonly executor: TextExecutor;
  readonly securityModes?: readonly SecurityMode[];
  readonly jurisdiction?: Jurisdiction;
  readonly cpuClass?: string;
  readonly accelerator?: string;
  /** Requests to language models of the hub that run at the same time; tensors have the runtime's own queue. */
  readonly slots?: number;
  readonly capacity?: number;
  /** Whether a model is loaded. */
  readonly warm?: (manifestDigest: string) => boolean;
};

export type RouterModules = {
  readonly suite: Pick<CryptoSuite, "sha256">;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  readonly local: LocalNode;
  readonly hub: HubTextModels;
  readonly upstreams: () => readonly RoutedUpstream[];
  readonly nodes: () => readonly NodeCandidate[];
  /** How a remote node is called; undefined when it has just left. */
  readonly nodeExecutor: (subject: string) => TextExecutor | undefined;
  readonly contract: (name: string) => Contract | undefined;
  readonly contracts: () => readonly Contract[];
  readonly assurance: { readonly get: () => AssurancePolicy; readonly digest: () => Uint8Array };
  /** Listings, by which models are charged here; without them prices are what the hub, upstreams and nodes say. */
  readonly listingOf?: (subject: ListingSubject) => Listing | undefined;
  /** Digits after the point of an asset's smallest unit. */
  readonly decimalsOf?: (asset: string) => number | undefined;
  /** Root of the last published checkpoint, 32 bytes: what a decision's chance is drawn from, with the request's id. */
  readonly checkpointRoot: () => Uint8Array;
};

/** One way to run one model, before anything is measured or limited. */
export type Source = {
  /** Name for callers: `namespace/name` or `upstream/model`. */
  readonly fullName: string;
  readonly engine: string;
  readonly model: string;
  readonly version?: string;
  readonly manifestDigest?: string;
  readonly kinds: readonly RoutedKind[];
  readonly family?: string;
  readonly contextTokens?: number;
  readonly maxOutputTokens?: number;
  readonly price?: Price;
  readonly warm: boolean;
  readonly auditable: boolean;
} & (
  | { readonly at: "hub"; readonly hub: HubTextModel }
  | { readonly at: "upstream"; readonly upstream: RoutedUpstream }
  | { readonly at: "node"; readonly node: NodeCandidate }
);
