// Gray images as PNG files; a canvas would make four channels of one.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let code = byte;
  for (let bit = 0; bit < 8; bit++) code = code & 1 ? 0xedb88320 ^ (code >>> 1) : code >>> 1;
  return code;
});

/** A gray image {height, width, data} as the base64 text of a PNG. */
export async function grayPng({ height, width, data }) {
  const rows = new Uint8Array(height * (width + 1)); // each begins with its filter: 0, none
  for (let row = 0; row < height; row++) rows.set(data.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const packed = await new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, 8); // bits a pixel; all else is 0: gray, as usual
  const parts = [
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", new Uint8Array(head.buffer)), chunk("IDAT", new Uint8Array(packed)), chunk("IEND", new Uint8Array()),
  ];
  return btoa(parts.map((part) => String.fromCharCode(...part)).join(""));
}

function chunk(kind, content) {
  const whole = new Uint8Array(content.length + 12), view = new DataView(whole.buffer);
  view.setUint32(0, content.length);
  whole.set(new TextEncoder().encode(kind), 4);
  whole.set(content, 8);
  view.setUint32(content.length + 8, checksum(whole.subarray(4, content.length + 8)));
  return whole;
}

function checksum(bytes) {
  let code = 0xffffffff;
  for (const byte of bytes) code = TABLE[(code ^ byte) & 0xff] ^ (code >>> 8);
  return (code ^ 0xffffffff) >>> 0;
}
