// The same draws from a shell and from Python: texts that run as they are.

const INDENT = "    ";

/** A shell's commands that make the draws; `png` is the digit as base64. */
export function curlText({ url, png, recipe, seed, copies, keyed }) {
  const key = keyed ? ' -H "X-API-Key: $STN_API_KEY"' : "";
  return [
    `echo ${quoted(png)} | base64 --decode > digit.png`,
    `curl${key} -F image=@digit.png --form-string ${quoted(`recipe=${JSON.stringify(recipe)}`)} -F seed=${seed} ` +
      `-F copies=${copies} ${quoted(`${url}/v1/augment`)}`,
    "",
  ].join("\n");
}

/** A Python program that makes the draws with the client. */
export function sdkText({ url, png, recipe, seed, copies, keyed }) {
  return `import base64
import io
${keyed ? "import os\n" : ""}
import numpy as np
from PIL import Image
from stn_client import Client

digit = Image.open(io.BytesIO(base64.b64decode(${JSON.stringify(png)})))
recipe = ${pythonOf(recipe)}
with Client(${JSON.stringify(url)}${keyed ? ', api_key=os.environ["STN_API_KEY"]' : ""}) as client:
    made = client.augment(np.array(digit)[None], recipe, seed=${seed}, copies=${copies})

print(made.images.shape)  # [copies, height, width]; made.theta tells what was done to each
`;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A JSON value as Python writes it, with a line for each member of what does not fit on one. */
export function pythonOf(value, indent = "") {
  const flat = onOneLine(value);
  if (value === null || typeof value !== "object" || flat.length + indent.length <= 100) return flat;
  const inner = indent + INDENT, isList = Array.isArray(value);
  const members = isList
    ? value.map((item) => pythonOf(item, inner))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonOf(item, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  return `${open}\n${members.map((member) => `${inner}${member},\n`).join("")}${indent}${close}`;
}

function onOneLine(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(onOneLine).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${onOneLine(item)}`).join(", ")}}`;
}
