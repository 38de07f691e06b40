// One request under way, and the newest wish next: what came between is never asked for.

/** A function that runs `work` with the newest argument it was given, one at a time. */
export function latest(work) {
  let running = false, waiting = null;
  return async function run(wish) {
    waiting = { wish };
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const next = waiting.wish;
        waiting = null;
        await work(next);
      }
    } finally {
      running = false;
    }
  };
}
