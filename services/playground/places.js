// Where in a JSON text something lies, so that what is wrong with it can be shown there.

/** The problems in the service's words, each with the place in `text` it is about: [{message, start, end, line}]. */
export function problemsIn(text, detail) {
  const broken = /line (\d+) column (\d+)/.exec(detail);
  if (broken) {
    const start = offsetOf(text, Number(broken[1]), Number(broken[2]));
    return [placed(text, detail, start, start + 1)];
  }
  return detail.replace(/^recipe: /, "").split("; ").map((message) => {
    const path = /^([^\s:]+): /.exec(message)?.[1].split(".") ?? [];
    return placed(text, message, ...rangeOf(text, path));
  });
}

function placed(text, message, start, end) {
  return { message, start, end, line: text.slice(0, start).split("\n").length };
}

function offsetOf(text, line, column) {
  const before = text.split("\n").slice(0, line - 1);
  return Math.min(text.length, before.reduce((sum, one) => sum + one.length + 1, 0) + column - 1);
}

/** The range of what lies at a path of keys and numbers; steps of it that the text does not have are passed over, as
    validators name the kind of a thing in its path too. */
function rangeOf(text, path) {
  const reader = new Reader(text);
  let found;
  try {
    found = reader.value();
  } catch {
    return [0, 0];
  }
  for (const step of path) {
    const next = found.inside?.get(step);
    if (next) found = next;
  }
  return [found.start, found.end];
}

/** Reads JSON into {start, end, inside}: where each value lies, by key or number what is in it. */
class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  value() {
    this.space();
    const start = this.at, sign = this.text[start];
    const inside = sign === "{" || sign === "[" ? this.members(sign) : undefined;
    if (sign === '"') this.string();
    else if (!inside) this.match(/[-+.\w]+/y);
    return { start, end: this.at, inside };
  }

  members(open) {
    const inside = new Map(), close = open === "{" ? "}" : "]";
    this.at += 1;
    for (let number = 0; ; number++) {
      this.space();
      if (this.text[this.at] === close) break;
      if (number) this.match(/,\s*/y);
      const start = this.at;
      const key = open === "{" ? this.string() : String(number);
      if (open === "{") this.match(/\s*:\s*/y);
      inside.set(key, { ...this.value(), start }); // with its key
      this.space();
    }
    this.at += 1;
    return inside;
  }

  string() {
    return JSON.parse(this.match(/"(?:[^"\\]|\\.)*"/y));
  }

  space() {
    this.match(/\s*/y);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw new SyntaxError(`unexpected text at ${this.at}`);
    this.at = pattern.lastIndex;
    return found[0];
  }
}
