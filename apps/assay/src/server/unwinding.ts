/** Steps that undo what a start did, taken in the opposite order. */
export type Unwinding = {
  readonly push: (step: () => Promise<unknown> | void) => void;
  /** Takes every step once, the latest first. */
  readonly unwind: () => Promise<void>;
};

export function createUnwinding(): Unwinding {
  const steps: (() => Promise<unknown> | void)[] = [];
  return {
    push: (step) => void steps.push(step),
    async unwind() {
      for (const step of steps.splice(0).toReversed()) await step();
    },
  };
}
