/**
 * Asks until `probe` gives something other than undefined or false, and gives that; throws with what was wanted after
 * `patienceMs`. Only the time of its own turns of `everyMs` counts: a machine that stood still for a minute fails nothing.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  patienceMs = 60_000,
  everyMs = 20,
): Promise<T> {
  for (let turns = Math.ceil(patienceMs / everyMs); ; turns--) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (turns <= 0) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
