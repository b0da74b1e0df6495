import { isAssayError } from "@assay/core";
import type { ExecuteModel, NodeNetwork, NodeRegistry, RoutedTensor, Router } from "@assay/service-gateway";

/** Tries of one inference: as many as a text gets. */
const MAX_TRIES = 3;
/** Failures of a node that say nothing about the request: another one may do it. */
const PASSING = new Set(["runtime_overloaded", "runtime_unavailable", "model_aborted", "model_out_of_memory"]);

/**
 * Inference where the router sends it. Without nodes elsewhere and without wishes nothing is decided: the local node
 * runs it, which is the hot path of a single machine.
 */
export function routeTensors(
  local: ExecuteModel,
  modules: { readonly registry: NodeRegistry; readonly router: Router; readonly network: NodeNetwork },
): ExecuteModel {
  const { registry, router, network } = modules;
  return async (request) => {
    if (request.routing === undefined && registry.list().length === 0) return local(request);
    const { name, version, manifestDigest } = request.model;
    const exclude = new Set<string>();
    /** Tries that failed, as the service statement tells them. */
    const tries: { readonly candidate: string; readonly outcome: string }[] = [];
    let failure: unknown;
    const next = (): RoutedTensor => {
      try {
        return router.routeTensor({ name, version, manifestDigest }, request.routing ?? {}, { exclude });
      } catch (error) {
        // Who came to the end of the candidates hears what the last one failed at.
        throw failure ?? error;
      }
    };
    for (;;) {
      const routed = next();
      routed.started();
      try {
        const run = routed.remote === undefined ? local : network.tensor(routed.remote);
        const done = await run(request);
        routed.ended("ok", { engineMs: done.engineMs });
        const service = routed.service();
        if (tries.length === 0 || !service.route) return { ...done, service };
        const all = [...tries, { candidate: routed.candidate, outcome: "stop" }];
        return {
          ...done,
          service: { ...service, route: { ...service.route, facts: { ...service.route.facts, tries: all } } },
        };
      } catch (error) {
        const code = isAssayError(error) ? error.code : "internal_error";
        routed.ended(request.signal.aborted ? "cancelled" : "failed", { code });
        const another = routed.remote !== undefined && (PASSING.has(code) || code.startsWith("node_"));
        if (request.signal.aborted || !another || exclude.size + 1 >= MAX_TRIES) throw error;
        failure = error;
        exclude.add(routed.candidate);
        tries.push({ candidate: routed.candidate, outcome: code });
      }
    }
  };
}
