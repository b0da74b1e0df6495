import { AssayError, bytesToHex } from "@assay/core";
import type { ReleaseClaims } from "@assay/receipts";

/** One released version of a model. */
export type ModelVersion = {
  readonly name: string;
  readonly version: number;
  /** Lower-case hex. */
  readonly manifestDigest: string;
  readonly owner: string;
  readonly visibility: "public" | "private";
  readonly status: "released" | "deprecated";
  readonly sizeBytes: number;
  readonly releasedAtMs: number;
  readonly logIndex: number;
};

/** The models as their release history has them; rebuilt from the log's release statements at each start. */
export type Catalogue = {
  readonly apply: (release: ReleaseClaims, logIndex: number) => void;
  /**
   * Throws `model_not_found`, `version_not_found` or `model_deprecated` (a bare name whose current version is). What
   * `sees` turns down is as if it were not there: neither errors nor their hints tell of it.
   */
  readonly resolve: (name: string, version?: number, sees?: (version: ModelVersion) => boolean) => ModelVersion;
  readonly versions: (name: string) => readonly ModelVersion[];
  readonly current: (name: string) => ModelVersion | undefined;
  readonly names: () => readonly string[];
};

type Sees = (version: ModelVersion) => boolean;
type Entry = { versions: Map<number, ModelVersion>; current: number | undefined };

/** An empty catalogue. */
export function createCatalogue(): Catalogue {
  const models = new Map<string, Entry>();
  const missing = (name: string, sees: Sees): AssayError<"model_not_found"> => {
    const known = [...models].filter(([, { versions }]) => [...versions.values()].some(sees)).map(([other]) => other);
    return new AssayError("model_not_found", `There is no model named ${name}.`, {
      hints: nearest(name, known).map((other) => `Did you mean ${other}?`),
    });
  };
  return {
    apply(release, logIndex) {
      const entry = models.get(release.modelName) ?? { versions: new Map<number, ModelVersion>(), current: undefined };
      models.set(release.modelName, entry);
      const deprecated = release.action === "deprecate";
      entry.versions.set(release.version, {
        name: release.modelName,
        version: release.version,
        manifestDigest: bytesToHex(release.modelDigest),
        owner: release.owner,
        visibility: release.visibility,
        status: deprecated ? "deprecated" : "released",
        sizeBytes: release.sizeBytes,
        releasedAtMs: release.issuedAtMs,
        logIndex,
      });
      if (!deprecated) entry.current = release.version;
      else if (entry.current === release.version) entry.current = undefined;
    },
    resolve(name, version, sees = () => true) {
      const entry = models.get(name);
      const seen = [...(entry?.versions.values() ?? [])].filter(sees).map((one) => one.version);
      if (!entry || seen.length === 0) throw missing(name, sees);
      const wanted = version ?? entry.current;
      if (wanted === undefined) {
        throw new AssayError("model_deprecated", `The current version of ${name} was deprecated.`, {
          hints: [`Ask for one of its versions by number (${listed(seen)}), or roll back to one.`],
        });
      }
      const found = entry.versions.get(wanted);
      if (found && sees(found)) return found;
      if (version === undefined) throw missing(name, sees);
      throw new AssayError("version_not_found", `The model ${name} has no version ${wanted}.`, {
        hints: [`It has: ${listed(seen)}.`],
      });
    },
    versions: (name) => [...(models.get(name)?.versions.values() ?? [])].toSorted((a, b) => b.version - a.version),
    current(name) {
      const entry = models.get(name);
      return entry?.current === undefined ? undefined : entry.versions.get(entry.current);
    },
    names: () => [...models.keys()].toSorted(),
  };
}

const MAX_SUGGESTIONS = 3;
/** Versions that a hint names; a model may have thousands. */
const MAX_LISTED = 16;

function listed(versions: readonly number[]): string {
  const newest = versions.slice(-MAX_LISTED);
  return newest.length < versions.length ? `…, ${newest.join(", ")}` : newest.join(", ");
}

function nearest(name: string, known: readonly string[]): string[] {
  const tail = name.slice(name.indexOf("/") + 1);
  return known
    .filter((other) => other.includes(tail) || tail.includes(other.slice(other.indexOf("/") + 1)))
    .slice(0, MAX_SUGGESTIONS);
}

const NAME = /^[a-z0-9][a-z0-9._-]{0,63}\/[a-z0-9][a-z0-9._-]{0,95}$/;

/** Splits `namespace/name` or `namespace/name@version`. Throws `model_name_invalid`. */
export function parseModelName(text: string): { readonly name: string; readonly version?: number } {
  const at = text.indexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  const version = at < 0 ? undefined : text.slice(at + 1);
  if (!NAME.test(name) || (version !== undefined && !/^[1-9][0-9]{0,8}$/.test(version))) {
    throw new AssayError("model_name_invalid", `${JSON.stringify(text.slice(0, 200))} is not the name of a model.`, {
      hints: [
        "A name is namespace/name in lower-case letters, digits, dots, dashes and underscores, with @version after it if wanted.",
      ],
    });
  }
  return version === undefined ? { name } : { name, version: Number(version) };
}
