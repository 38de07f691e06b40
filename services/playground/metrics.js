// Prometheus' text format, and what two readings of it say of the time between them.

/** The samples of a text: [{name, labels, value}]. */
export function parseMetrics(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!found) continue; // a comment, or nothing
    const labels = {};
    for (const [, key, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key] = value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    }
    samples.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return samples;
}

/** What the samples of `name` add up to, by what `key` makes of their labels: a Map. */
export function sums(samples, name, key = () => "") {
  const found = new Map();
  for (const sample of samples) {
    if (sample.name === name) found.set(key(sample.labels), (found.get(key(sample.labels)) ?? 0) + sample.value);
  }
  return found;
}

/** How much each sum grew; one that fell began anew with its process. */
export function growth(before, after) {
  return new Map([...after].map(([key, value]) => {
    const old = before.get(key) ?? 0;
    return [key, value >= old ? value - old : value];
  }));
}

/** The value below which a share of a histogram's entries lies; `buckets` is a Map of counts by upper bound, cumulated.
    Within a bucket entries are taken to lie evenly, as Prometheus does; null if there are none. */
export function quantile(buckets, share) {
  const bounds = [...buckets].map(([bound, count]) => [bound === "+Inf" ? Infinity : Number(bound), count]).sort((a, b) => a[0] - b[0]);
  const wanted = (bounds.at(-1)?.[1] ?? 0) * share;
  if (!wanted) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of bounds) {
    if (count >= wanted) return bound === Infinity ? low : low + ((bound - low) * (wanted - below)) / (count - below);
    [low, below] = [bound, count];
  }
  return low;
}
