// The Open Inference Protocol v2 with binary tensors: a JSON header, and behind it the bytes of each tensor.
// A tensor is {datatype, shape, data}, data a typed array, or for BYTES a list of Uint8Array.

export const HEADER_LENGTH = "Inference-Header-Content-Length";

const ARRAYS = {
  BOOL: Uint8Array, UINT8: Uint8Array, INT32: Int32Array, INT64: BigInt64Array, UINT64: BigUint64Array,
  FP32: Float32Array, FP64: Float64Array,
};

/** A request's body and headers; it asks for the `outputs` (all of them when undefined) as binary data. */
export function encodeRequest(inputs, outputs, parameters = {}) {
  const parts = Object.values(inputs).map((tensor) => bytesOf(tensor));
  const header = {
    parameters: { ...parameters, binary_data_output: true },
    inputs: Object.entries(inputs).map(([name, tensor], place) => ({
      name, datatype: tensor.datatype, shape: tensor.shape, parameters: { binary_data_size: parts[place].length },
    })),
  };
  if (outputs) header.outputs = outputs.map((name) => ({ name }));
  const head = new TextEncoder().encode(JSON.stringify(header));
  return {
    body: new Blob([head, ...parts]),
    headers: { "Content-Type": "application/octet-stream", [HEADER_LENGTH]: String(head.length) },
  };
}

/** The outputs of an answer by name, and its parameters; `length` is that of its header, null if all is JSON. */
export function decodeResponse(buffer, length) {
  const headerLength = length === null ? buffer.byteLength : Number(length);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 0, headerLength)));
  const outputs = {};
  let offset = headerLength;
  for (const { name, datatype, shape, parameters, data } of header.outputs) {
    const size = parameters?.binary_data_size;
    if (size === undefined) {
      outputs[name] = { datatype, shape, data };
      continue;
    }
    const bytes = buffer.slice(offset, offset + size); // a copy, as typed arrays want their bytes aligned
    outputs[name] = { datatype, shape, data: datatype === "BYTES" ? elementsOf(bytes) : new ARRAYS[datatype](bytes) };
    offset += size;
  }
  return { outputs, parameters: header.parameters ?? {} };
}

/** The elements of a BYTES tensor as texts. */
export function texts(tensor) {
  return tensor.data.map((element) => (typeof element === "string" ? element : new TextDecoder().decode(element)));
}

function bytesOf({ datatype, data }) {
  if (datatype !== "BYTES") return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const whole = new Uint8Array(data.reduce((sum, element) => sum + 4 + element.length, 0));
  const view = new DataView(whole.buffer);
  let offset = 0;
  for (const element of data) {
    view.setUint32(offset, element.length, true);
    whole.set(element, offset + 4);
    offset += 4 + element.length;
  }
  return whole;
}

function elementsOf(buffer) {
  const view = new DataView(buffer);
  const elements = [];
  for (let offset = 0; offset < buffer.byteLength; ) {
    const length = view.getUint32(offset, true);
    elements.push(new Uint8Array(buffer, offset + 4, length));
    offset += 4 + length;
  }
  return elements;
}
